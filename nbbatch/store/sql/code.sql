-- Which code ran.

-- code_versions: Versions of a step's code, the oldest first, with the attempts that ran each.
SELECT e.code, any_value(c.source), min(e.started_us), max(e.ended_us), count(*),
    count(*) FILTER (e.status = {COMPLETED}), count(*) FILTER (e.status IN {ERRORS})
FROM event e LEFT JOIN code c ON c.fingerprint = e.code
WHERE e.instance = $1 AND e.step = $2 AND e.code IS NOT NULL AND e.started_us IS NOT NULL
GROUP BY e.code ORDER BY min(e.id);

-- code_of_chunk: The source that a chunk's newest attempt in a step ran.
SELECT c.source FROM event e JOIN code c ON c.fingerprint = e.code
WHERE e.instance = $1 AND e.chunk = $2 AND e.step = $3 ORDER BY e.id DESC LIMIT 1;

-- kept_codes: Fingerprints of the steps whose source text is kept.
SELECT fingerprint FROM code;

-- code: A step's source text.
SELECT source FROM code WHERE fingerprint = $1;

-- set_code: Put another text in its place.
UPDATE code SET source = $2 WHERE fingerprint = $1;
