// A broker with everything switched off that costs time and is not needed to answer.
"use strict";
const { ServiceBroker } = require("moleculer");

module.exports = (nodeID) =>
	new ServiceBroker({
		nodeID,
		transporter: process.env.NATS_URL,
		logger: false,
		metrics: false,
		tracing: false,
		requestTimeout: 5000,
	});
