/** Converts lengths: `/convert/12/in/cm`. */

enum Unit {
  mm = 1,
  cm = 10,
  in = 25.4,
  m = 1000,
  km = 1_000_000,
}

interface Request {
  readonly path: string;
}

interface Converted {
  value: number;
  unit: string;
}

const isUnit = (name: string | undefined): name is keyof typeof Unit =>
  name !== undefined && name in Unit && Number.isNaN(Number(name));

function handler(request: Request): Converted | Response {
  const [value, from, to] = request.path.split("/");
  if (!isUnit(from) || !isUnit(to) || Number.isNaN(Number(value))) {
    return Response.json({ error: "ask for /convert/12/in/cm" }, { status: 400 });
  }
  return { value: (Number(value) * Unit[from]) / Unit[to], unit: to };
}
