// Events for modules that were written for the queues of Workers: batches of one message.

class Batch {
  constructor(event) {
    this.queue = event.topic;
    this.messages = [new Message(event)];
  }

  ackAll() {
    this.messages[0].ack();
  }

  retryAll() {
    this.messages[0].retry();
  }
}

class Message {
  #retry = false;

  constructor(event) {
    this.id = event.id;
    this.timestamp = new Date(event.timestamp);
    this.body = event.payload;
    this.attempts = event.attempt;
  }

  ack() {
    this.#retry = false;
  }

  retry() {
    this.#retry = true;
  }

  static wants(message) {
    return message.#retry;
  }
}

/** An event as a batch. */
export function batchOf(event) {
  return new Batch(event);
}

/** The `queue` of a module as a handler that throws where a message is to come again; null if it has none. */
export function queued({ queue }) {
  if (typeof queue !== "function") return null;
  return async (batch, ctx) => {
    const message = batch.messages[0];
    await queue(batch, ctx);
    if (Message.wants(message)) {
      throw new Error("the message is to come again: `retry()` was called");
    }
  };
}
