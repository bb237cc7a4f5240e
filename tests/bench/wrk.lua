-- What wrk sends, and its figures as one line of JSON.
-- Arguments: bytes of body, 0 for a GET; milliseconds to wait before each request.

function init(args)
    local body, pause = tonumber(args[1]), tonumber(args[2])
    if body > 0 then
        wrk.method = "POST"
        wrk.headers["Content-Type"] = "application/octet-stream"
        wrk.body = string.rep("x", body)
    end
    if pause > 0 then
        function delay()
            return pause
        end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"seconds": %.6f, "requests": %d, "bytes": %d, "p50_ms": %.3f, "p99_ms": %.3f, ' ..
        '"status": %d, "timeouts": %d, "broken": %d}\n',
        summary.duration / 1e6, summary.requests, summary.bytes,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        errors.status, errors.timeout, errors.connect + errors.read + errors.write))
end
