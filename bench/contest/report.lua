-- What wrk has measured, as one line of JSON. Its latencies are those of wrk's own histogram, in microseconds, each with how often it was seen;
-- wrk has added to them those of requests that were not sent while an answer was late (its correction for coordinated omission).
done = function(summary, latency, requests)
  local e = summary.errors
  local seen = {}
  for i = 1, #latency do
    local value, count = latency(i)
    seen[i] = string.format("[%d,%d]", value, count)
  end
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"microseconds":%d,"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},"latency":[%s]}\n',
    summary.requests, summary.bytes, summary.duration, e.connect, e.read, e.write, e.status, e.timeout, table.concat(seen, ",")))
end
