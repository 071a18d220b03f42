// The RPC caller: node call.js CONCURRENCY WARMUP SECONDS prints one line of JSON.
"use strict";
const broker = require("./broker")("caller");
const [concurrency, warmup, seconds] = process.argv.slice(2).map(Number);

async function callers(duration) {
	const latencies = [];
	const start = performance.now();
	const end = start + duration * 1000;
	const caller = async () => {
		let before = performance.now();
		while (before < end) {
			await broker.call("helloworld.call", { name: "John" });
			const after = performance.now();
			latencies.push(after - before);
			before = after;
		}
	};
	await Promise.all(Array.from({ length: concurrency }, caller));
	const elapsed = (performance.now() - start) / 1000;
	latencies.sort((a, b) => a - b);
	return {
		per_second: latencies.length / elapsed,
		p50_ms: latencies[Math.floor(latencies.length / 2)],
	};
}

async function main() {
	await broker.start();
	await broker.waitForServices("helloworld");
	await callers(warmup);
	console.log(JSON.stringify(await callers(seconds)));
	await broker.stop();
}

main();
