-- What ended before it was counted. Which model took the tokens is not known of these.
WITH RECURSIVE
    step(width) AS (VALUES (10000), (60000), (3600000), (21600000), (86400000)),
    ended AS (
        SELECT crew, status, finished,
               CASE WHEN started IS NULL THEN -1
                    ELSE (SELECT max(bucket) FROM tally_bound WHERE ms <= max(finished - started, 0)) END AS bucket,
               iif(meta IS NULL, '', coalesce(json_extract(meta, '$.tenant'), '')) AS tenant
        FROM kickoff WHERE finished IS NOT NULL),
    counted AS (
        SELECT '' AS tenant, crew, status, finished, bucket FROM ended
        UNION ALL SELECT tenant, crew, status, finished, bucket FROM ended WHERE tenant <> '')
INSERT INTO tally
SELECT width, tenant, finished / width * width, crew, status, bucket, count(*)
FROM counted, step
WHERE finished >= (SELECT max(finished) FROM kickoff) - width * 1100
GROUP BY 1, 2, 3, 4, 5, 6;

WITH step(width) AS (VALUES (10000), (60000), (3600000), (21600000), (86400000))
INSERT INTO spend
SELECT width, finished / width * width, crew, iif(meta IS NULL, '', coalesce(json_extract(meta, '$.tenant'), '')), '',
       sum(tokens), 0, 0, 0, 0
FROM kickoff, step
WHERE tokens > 0 AND finished >= (SELECT max(finished) FROM kickoff) - width * 1100
GROUP BY 1, 2, 3, 4;
