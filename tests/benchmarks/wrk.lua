-- The load: GET /bench with the keys of the file named after `--`, one after the other; one JSON line at the end.
-- With a second word, `differing`, each call has a traceparent and a path of its own.
function init(args)
    requests, at, count = {}, 0, 0
    for key in io.lines(args[1]) do
        if args[2] then
            requests[#requests + 1] = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nX-API-Key: " .. key .. "\r\ntraceparent: 00-"
        else
            requests[#requests + 1] = wrk.format("GET", "/bench", {["X-API-Key"] = key, ["Host"] = wrk.headers["Host"]})
        end
    end
    run = args[2] and os.time()
end

function request()
    at = at % #requests + 1
    if not run then return requests[at] end
    count = count + 1
    local number = string.format("%08x%08x", run, count)
    return "GET /bench/" .. number .. requests[at] .. number .. number .. "-" .. number .. "-01\r\n\r\n"
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.timeout, e.status,
        latency:percentile(50), latency:percentile(99)))
end
