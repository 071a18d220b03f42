-- A document of 1 KB, sent again and again.
local items = {}
for number = 1, 28 do
  items[number] = string.format('{"id":%d,"name":"item %d","ok":true}', number, number)
end

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"items":[' .. table.concat(items, ",") .. "]}"
