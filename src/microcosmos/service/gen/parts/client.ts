/** What a call came to; the classes below are by code. */
export class MicroError extends Error {
  /** Where it arose: `users.Read.MissingID`, or the service's name. */
  readonly id: string;
  /** The HTTP status. */
  readonly code: number;
  /** One line for people. */
  readonly detail: string;
  /** The code in words. */
  readonly status: string;

  constructor(id: string, detail = "", code = 500, status = "Internal Server Error") {
    super(detail ? `${id}: ${detail}` : id);
    this.name = new.target.name;
    this.id = id;
    this.detail = detail;
    this.code = code;
    this.status = status;
  }

  /** Whether the same call may succeed a moment later. */
  get retryable(): boolean {
    return [408, 500, 504].includes(this.code) || this instanceof ConnectionLost;
  }
}

/** 400: the input is wrong; the detail has the path of the field. */
export class BadRequest extends MicroError {}
/** 401: no token, or a bad one. */
export class Unauthorized extends MicroError {}
/** 403: known, but not allowed. */
export class Forbidden extends MicroError {}
/** 404: an unknown service, endpoint or key. */
export class NotFound extends MicroError {}
/** 405: a method that has no meaning here. */
export class MethodNotAllowed extends MicroError {}
/** 408: the request took too long to arrive. */
export class RequestTimeout extends MicroError {}
/** 409: taken, or changed by someone else. */
export class Conflict extends MicroError {}
/** 413: over a published limit. */
export class TooLarge extends MicroError {}
/** 429: over a quota or a limit of calls at once. */
export class TooManyRequests extends MicroError {}
/** 499: the caller went away before the answer. */
export class ClientClosed extends MicroError {}
/** 500: anything else. */
export class InternalServerError extends MicroError {}
/** 501: not built. */
export class Unimplemented extends MicroError {}
/** 502: an answer that is not what was promised. */
export class BadGateway extends MicroError {}
/** 503: none alive. */
export class Unavailable extends MicroError {}
/** 503: the line broke before the answer. */
export class ConnectionLost extends Unavailable {}
/** 504: late. */
export class DeadlineExceeded extends MicroError {}

const CLASSES: Record<number, typeof MicroError> = {
  400: BadRequest,
  401: Unauthorized,
  403: Forbidden,
  404: NotFound,
  405: MethodNotAllowed,
  408: RequestTimeout,
  409: Conflict,
  413: TooLarge,
  429: TooManyRequests,
  499: ClientClosed,
  500: InternalServerError,
  501: Unimplemented,
  502: BadGateway,
  503: Unavailable,
  504: DeadlineExceeded,
};

/** How a client reaches the platform. */
export interface ClientOptions {
  /** Where the gateway is; `http://127.0.0.1:8080` unless given. */
  baseUrl?: string;
  /**
   * An access token, as `micro user token` prints it, or what gives one. A WebSocket has no
   * headers in browsers: with what the caller streams, neither it nor the metadata is sent.
   */
  token?: string | (() => string | Promise<string>);
  /** Milliseconds that a call may take; 10,000 unless given. Streams have no limit. */
  timeout?: number;
  /** Sent as headers with every call. */
  metadata?: Record<string, string>;
  /** Carries the calls; the global one unless given. */
  fetch?: typeof globalThis.fetch;
  /** Carries what the caller streams; the global one unless given (Node has one from 22 on). */
  WebSocket?: typeof globalThis.WebSocket;
}

/** What may be said with one call. */
export interface CallOptions {
  /** Gives the call up. */
  signal?: AbortSignal;
  /** Milliseconds that it may take, a retry included. */
  timeout?: number;
  /** Sent as headers, beside those of the client. */
  metadata?: Record<string, string>;
}

/** Answers as they come: `for await (const answer of answers)`; leaving the loop ends them. */
export interface Answers<Answer> extends AsyncIterable<Answer> {
  /** End the stream; whoever answers is told. */
  close(): void;
}

/** Answers as they come, to items as they are sent. */
export interface Dialogue<Item, Answer> extends Answers<Answer> {
  /** Send an item. */
  send(item: Item): Promise<void>;
  /** No more items come; the answers still do. */
  end(): Promise<void>;
}

interface Sent {
  endpoint: string;
  path: string;
  request: unknown;
  options: CallOptions;
}

class Transport {
  private readonly options: ClientOptions;
  private readonly base: string;

  constructor(options: ClientOptions) {
    this.options = options;
    this.base = (options.baseUrl ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
  }

  /** One call, and once more within its time if it failed for a passing reason. */
  async call<Answer>(sent: Sent, retry: boolean): Promise<Answer> {
    const timeout = sent.options.timeout ?? this.options.timeout ?? 10_000;
    const deadline = Date.now() + timeout;
    try {
      return await this.once<Answer>(sent, timeout);
    } catch (error) {
      const left = deadline - Date.now();
      if (!retry || !(error instanceof MicroError && error.retryable) || left <= 0) throw error;
      return await this.once<Answer>(sent, left);
    }
  }

  private async once<Answer>(sent: Sent, timeout: number): Promise<Answer> {
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), timeout);
    const unlink = follow(sent.options.signal, giveUp);
    try {
      const headers = { "micro-timeout": `${Math.max(1, Math.round(timeout))}ms` };
      const answer = await this.post(sent, headers, giveUp);
      const text = await answer.text();
      if (!answer.ok) throw errorOf(text, answer.status, answer.statusText);
      return decoded<Answer>(text);
    } catch (error) {
      if (error instanceof MicroError) throw error;
      sent.options.signal?.throwIfAborted();
      if (giveUp.signal.aborted) {
        const detail = `no answer within ${timeout} ms`;
        throw new DeadlineExceeded(sent.endpoint, detail, 504, "Gateway Timeout");
      }
      throw lost(sent.endpoint, error);
    } finally {
      clearTimeout(timer);
      unlink();
    }
  }

  private async post(
    sent: Sent,
    more: Record<string, string>,
    giveUp: AbortController,
  ): Promise<Response> {
    const send = this.options.fetch ?? globalThis.fetch;
    return await send(this.base + sent.path, {
      method: "POST",
      headers: { "content-type": "application/json", ...(await this.headers(sent)), ...more },
      body: JSON.stringify(sent.request ?? {}),
      signal: giveUp.signal,
    });
  }

  private async headers(sent: Sent): Promise<Record<string, string>> {
    const { token, metadata } = this.options;
    const given = typeof token === "function" ? await token() : token;
    return {
      ...metadata,
      ...sent.options.metadata,
      ...(given ? { authorization: `Bearer ${given}` } : {}),
    };
  }

  /** A stream of answers, read as one JSON a line. */
  answers<Answer>(sent: Sent): Answers<Answer> {
    const giveUp = new AbortController();
    const read = this.lines<Answer>(sent, giveUp);
    return { close: () => giveUp.abort(), [Symbol.asyncIterator]: () => read };
  }

  private async *lines<Answer>(sent: Sent, giveUp: AbortController): AsyncGenerator<Answer> {
    const unlink = follow(sent.options.signal, giveUp);
    try {
      const answer = await this.post(sent, { accept: "application/x-ndjson" }, giveUp);
      if (!answer.ok || !answer.body) {
        throw errorOf(await answer.text(), answer.status, answer.statusText);
      }
      for await (const line of splitLines(answer.body)) {
        if (line.startsWith('{"error":')) throw errorOf(line, 500, "");
        yield decoded<Answer>(line);
      }
    } catch (error) {
      if (error instanceof MicroError) throw error;
      sent.options.signal?.throwIfAborted();
      if (giveUp.signal.aborted) return;
      throw lost(sent.endpoint, error);
    } finally {
      unlink();
      giveUp.abort();
    }
  }

  /** A stream in both directions, over a WebSocket. */
  dialogue<Item, Answer>(sent: Sent): Dialogue<Item, Answer> {
    const Socket = this.options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) {
      const detail = "there is no WebSocket here; give one: new Client({ WebSocket })";
      throw new Unimplemented(sent.endpoint, detail, 501, "Not Implemented");
    }
    const url = "ws" + this.base.slice("http".length) + sent.path + queryOf(sent.request);
    return new Talk<Item, Answer>(() => new Socket(url), sent);
  }

  /** Send all items, and give the one answer. */
  async only<Item, Answer>(
    sent: Sent,
    items: Iterable<Item> | AsyncIterable<Item>,
  ): Promise<Answer> {
    const talk = this.dialogue<Item, Answer>(sent);
    try {
      for await (const item of items) await talk.send(item);
      await talk.end();
      for await (const answer of talk) return answer;
    } finally {
      talk.close();
    }
    const detail = "the stream ended without an answer";
    throw new BadGateway(sent.endpoint, detail, 502, "Bad Gateway");
  }
}

class Talk<Item, Answer> implements Dialogue<Item, Answer> {
  private readonly socket: WebSocket;
  private readonly opened: Promise<void>;
  private readonly unread: Answer[] = [];
  private failure: unknown;
  private over = false;
  private wake: () => void = () => {};

  constructor(connect: () => WebSocket, sent: Sent) {
    const signal = sent.options.signal;
    signal?.throwIfAborted();
    const socket = (this.socket = connect());
    const abort = () => {
      this.fail(signal?.reason);
      socket.close();
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.opened = new Promise((resolve) => {
      socket.onopen = () => resolve();
      socket.onclose = (event) => {
        signal?.removeEventListener("abort", abort);
        if (event.code !== 1000 && event.code !== 1005) this.fail(closed(sent.endpoint, event.code, event.reason));
        this.over = true;
        this.wake();
        resolve();
      };
    });
    socket.onmessage = (event) => this.take(String(event.data));
  }

  private take(text: string): void {
    if (text.startsWith('{"error":')) this.fail(errorOf(text, 500, ""));
    else if (text) {
      try {
        this.unread.push(decoded<Answer>(text));
      } catch (error) {
        this.fail(error);
      }
    }
    this.wake();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    this.over = true;
    this.wake();
  }

  async send(item: Item): Promise<void> {
    await this.write(JSON.stringify(item));
  }

  async end(): Promise<void> {
    await this.write("");
  }

  private async write(text: string): Promise<void> {
    await this.opened;
    if (this.failure !== undefined) throw this.failure;
    if (!this.over) this.socket.send(text);
  }

  close(): void {
    this.over = true;
    this.socket.close();
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Answer> {
    try {
      for (;;) {
        const answer = this.unread.shift();
        if (answer !== undefined) yield answer;
        else if (this.failure !== undefined) throw this.failure;
        else if (this.over) return;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      this.close();
    }
  }
}

/** Give up when a signal says so; gives what ends that. */
function follow(signal: AbortSignal | undefined, giveUp: AbortController): () => void {
  const abort = () => giveUp.abort(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  if (signal?.aborted) abort();
  return () => signal?.removeEventListener("abort", abort);
}

function decoded<Answer>(text: string): Answer {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    throw new BadGateway("client", "the answer is no JSON", 502, "Bad Gateway");
  }
}

/** The error of an answer's body; its keys are read in any case. */
function errorOf(text: string, code: number, status: string): MicroError {
  let told: Record<string, unknown> = {};
  try {
    told = lowered(JSON.parse(text));
    if (told["error"]) told = lowered(told["error"]);
  } catch {
    // Whatever answered is no gateway; the status line says what there is to say.
  }
  const given = typeof told["code"] === "number" && told["code"] ? told["code"] : code;
  const Kind = CLASSES[given] ?? MicroError;
  const detail = String(told["detail"] || status || "the gateway answered without a reason");
  return new Kind(String(told["id"] || "gateway"), detail, given, String(told["status"] || status));
}

function lowered(value: unknown): Record<string, unknown> {
  const pairs = Object.entries(Object(value)) as [string, unknown][];
  return Object.fromEntries(pairs.map(([name, one]) => [name.toLowerCase(), one]));
}

function lost(endpoint: string, error: unknown): ConnectionLost {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const detail = `the connection broke: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new ConnectionLost(endpoint, detail, 503, "Service Unavailable");
}

function closed(endpoint: string, code: number, reason: string): MicroError {
  if (code >= 4400 && code < 4600) return errorOf("", code - 4000, reason);
  return lost(endpoint, new Error(reason || `the WebSocket was closed with ${code}`));
}

async function* splitLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split("\n");
    rest = done ? "" : (lines.pop() ?? "");
    for (const line of lines) if (line) yield line;
    if (done) return;
  }
}

/** A request as a query string: texts as they are, everything else as JSON. */
function queryOf(request: unknown): string {
  const texts = new URLSearchParams();
  for (const [name, value] of Object.entries(Object(request ?? {})) as [string, unknown][]) {
    if (value !== undefined) texts.set(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  const query = texts.toString();
  return query ? `?${query}` : "";
}
