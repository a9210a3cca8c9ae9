-- The closed loop of `make bench-serve` for wrk: goes through the rows of a file, so that two requests are never alike.
local bodies = {}
for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
local number = 0

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
if os.getenv("BENCH_AUTHORIZATION") then wrk.headers["authorization"] = os.getenv("BENCH_AUTHORIZATION") end

function request()
  number = number % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[number])
end

function done(summary, latency, _)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    "RESULT {\"answers\": %d, \"seconds\": %.6f, \"refused\": %d, \"broken\": %d, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
      .. "\"p999_ms\": %.3f, \"max_ms\": %.3f}\n",
    summary.requests, summary.duration / 1e6, errors.status, broken, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, latency.max / 1000))
end
