-- What ended before it was counted. Which model took the tokens is not known of these. Short intervals are kept for a short
-- time, and so are filled for that.
CREATE TEMP TABLE ended AS
SELECT crew, status, finished, tokens, coalesce(json_extract(meta, '$.tenant'), '') AS tenant,
       CASE WHEN started IS NULL THEN -1
            ELSE (SELECT bucket FROM tally_bound WHERE ms <= max(finished - started, 0) ORDER BY ms DESC LIMIT 1) END AS bucket
FROM kickoff WHERE finished IS NOT NULL;

INSERT INTO tally
WITH step(width) AS (VALUES (10000), (60000), (3600000), (21600000), (86400000))
SELECT width, '', finished / width * width, crew, status, bucket, count(*)
FROM step CROSS JOIN temp.ended WHERE finished >= (SELECT max(finished) FROM temp.ended) - width * 400
GROUP BY 1, 3, 4, 5, 6;

INSERT INTO tally
WITH step(width) AS (VALUES (10000), (60000), (3600000), (21600000), (86400000))
SELECT width, tenant, finished / width * width, crew, status, bucket, count(*)
FROM step CROSS JOIN temp.ended WHERE tenant <> '' AND finished >= (SELECT max(finished) FROM temp.ended) - width * 400
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO spend
WITH step(width) AS (VALUES (10000), (60000), (3600000), (21600000), (86400000))
SELECT width, finished / width * width, crew, tenant, '', sum(tokens), 0, 0, 0, 0
FROM step CROSS JOIN temp.ended WHERE tokens > 0 AND finished >= (SELECT max(finished) FROM temp.ended) - width * 400
GROUP BY 1, 2, 3, 4;

DROP TABLE temp.ended;
