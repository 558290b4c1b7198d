-- The load: GET /bench with the keys of the file named after `--`, one after the other; one JSON line at the end.
function init(args)
    requests, at = {}, 0
    for key in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format("GET", "/bench", {["X-API-Key"] = key, ["Host"] = wrk.headers["Host"]})
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.timeout, e.status,
        latency:percentile(50), latency:percentile(99)))
end
