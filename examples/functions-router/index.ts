import { Hono } from "hono";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";

import { codeOf } from "./lib/codes";

type Bindings = {
  store: {
    get(key: string): Promise<string | null>;
    set(key: string, value: string): Promise<void>;
    list(options?: { prefix?: string; limit?: number }): Promise<string[]>;
  };
};

const app = new Hono<{ Bindings: Bindings }>().basePath("/links");

app.use(cors());

app.get("/", async (c) => c.json({ links: await c.env.store.list() }));

app.post("/", async (c) => {
  const { url } = await c.req.json<{ url?: string }>();
  if (!url || !URL.canParse(url)) throw new HTTPException(400, { message: "say a url" });
  const code = await codeOf(url);
  await c.env.store.set(code, url);
  return c.json({ code, url }, 201);
});

app.get("/:code", async (c) => {
  const url = await c.env.store.get(c.req.param("code"));
  if (url === null) throw new HTTPException(404, { message: "there is no such link" });
  return c.redirect(url);
});

app.onError((error, c) => {
  if (error instanceof HTTPException) return c.json({ error: error.message }, error.status);
  throw error;
});

export default app;
