`<!DOCTYPE html>
<html>
  <head><title>Hello</title></head>
  <body><h1>Hello from ${path || "the top"}!</h1></body>
</html>
`;
