-- Chunks by state.

-- counts: By step of an instance as of $2 (NULL: now) how many chunks are in each state, in the order of their codes.
SELECT counts FROM tally($1, coalesce($2, {NOW})) ORDER BY step;

-- steps: One row per step of an instance as of $2 (NULL: now).
SELECT k.step::INTEGER AS position, k.name AS step, k.kind, k.gated, k.chunks, {COUNT_COLUMNS}, coalesce(p.records, 0) AS records,
    CASE WHEN k.kind = 'many' THEN coalesce(p.empty, 0) ELSE 0 END AS filtered, coalesce(r.reused, 0) AS reused,
    w.took_us[1] / 1e6 AS median_seconds, w.took_us[2] / 1e6 AS p95_seconds,
    make_timestamptz(least(p.started_us, k.begun_us)) AS started, make_timestamptz(p.ended_us) AS ended
FROM tally($1, coalesce($2, {NOW})) k LEFT JOIN spent($1, coalesce($2, {NOW})) p ON p.step = k.step
LEFT JOIN took($1, coalesce($2, {NOW})) w ON w.step = k.step
LEFT JOIN reused_by($1, coalesce($2, {NOW})) r ON r.step = k.step ORDER BY k.step;

-- live_steps: The same now without counts, which the engine has: what it takes to look four times a second at a million chunks.
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, 0 AS chunks, {ZERO_COLUMNS}, coalesce(p.records, 0) AS records,
    CASE WHEN s.kind = 'many' THEN coalesce(p.empty, 0) ELSE 0 END AS filtered, coalesce(r.reused, 0) AS reused,
    w.took_us[1] / 1e6 AS median_seconds, w.took_us[2] / 1e6 AS p95_seconds,
    make_timestamptz(p.started_us) AS started, make_timestamptz(p.ended_us) AS ended
FROM step s LEFT JOIN spent($1, {NOW}) p ON p.step = s.step LEFT JOIN took($1, {NOW}) w ON w.step = s.step
LEFT JOIN reused_by($1, {NOW}) r ON r.step = s.step WHERE s.instance = $1 ORDER BY s.step;
