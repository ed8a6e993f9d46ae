-- wrk's requests for each kind of work, and its figures as one line of JSON.

function init(arguments)
  if arguments[1] == "echo" then
    wrk.method = "POST"
    wrk.body = string.rep("x", 10000)
  elseif arguments[1] == "new connections" then
    wrk.headers["Connection"] = "close"
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p99": %f, "failures": %d, "closed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(99),
    errors.connect + errors.write + errors.status + errors.timeout, errors.read))
end
