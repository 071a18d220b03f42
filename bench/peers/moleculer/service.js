// The service: one action with one checked parameter.
"use strict";
const broker = require("./broker")("service");

broker.createService({
	name: "helloworld",
	actions: {
		call: {
			params: { name: "string" },
			handler: (ctx) => ({ msg: `Hello ${ctx.params.name}` }),
		},
	},
});

broker.start().then(() => console.log("ready"));
