// moleculer-web as the gateway: GET /helloworld/call?name=John
"use strict";
const broker = require("./broker")("gateway");

broker.createService({
	mixins: [require("moleculer-web")],
	settings: {
		ip: "127.0.0.1",
		port: Number(process.env.PORT),
		routes: [
			{
				path: "/",
				aliases: { "GET /helloworld/call": "helloworld.call" },
				mappingPolicy: "restrict",
				bodyParsers: false,
				logging: false,
			},
		],
	},
});

broker.start().then(() => broker.waitForServices("helloworld")).then(() => console.log("ready"));
