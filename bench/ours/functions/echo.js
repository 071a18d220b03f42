function handler(request) {
  return request.json();
}
