-- wrk's requests for each kind of work, and its figures as one line of JSON.

function init(arguments)
  local kind, value = arguments[1], tonumber(arguments[2])
  if kind == "echo" then
    wrk.method = "POST"
    wrk.body = string.rep("x", 10000)
  elseif kind == "body" then
    wrk.method = "POST"
    wrk.body = string.rep("x", value)
  elseif kind == "fields" then
    for number = 2, value do -- the first is Host
      wrk.headers["X-Field-" .. number] = "a value of usual length"
    end
  elseif kind == "new connections" then
    wrk.headers["Connection"] = "close"
  elseif kind == "tails" then
    local plain, burning, count = wrk.format(), wrk.format("GET", "/burn"), 0
    function request() -- one in twenty, as arrivals.py asks on average
      count = count + 1
      return count % 20 == 0 and burning or plain
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p99": %f, "failures": %d, "closed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(99),
    errors.connect + errors.write + errors.status + errors.timeout, errors.read))
end
