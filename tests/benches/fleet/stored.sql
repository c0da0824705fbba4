-- Kickoffs as a gateway has them that has run for a week: twenty crews, a hundred workers, two hundred tenants. One in twenty
-- has failed, in one of fifty ways; some are cancelled, took too long, or wait. Numbers that are multiplied and shifted stand
-- in for chance.
INSERT INTO kickoff (number, id, crew, status, progress, created, heard, started, finished, attempt, redrive, worker,
                     error_kind, error_message, fingerprint, tokens, meta)
SELECT n, id, crew, status, iif(waits, 0, 2), created, created, iif(waits, NULL, created + 40), iif(waits, NULL, created + 9000),
       1, 0, iif(waits, NULL, worker), iif(fails, 'exception', NULL),
       iif(fails, printf('the model of way %d answered with status %d after %d tries', way, 400 + way, n % 7), NULL),
       iif(fails, fingerprint, NULL), iif(status = 2, n % 9000, NULL), json_object('tenant', tenant, 'order', n)
FROM made;

INSERT INTO meta (key, value, created, kickoff) SELECT 'tenant', tenant, created, n FROM made;

INSERT INTO event (place, kickoff, type, attempt, redrive, sequence, time, heard, data)
SELECT 2 * n, n, 'kickoff_started', 1, 0, 1, created + 40, created + 40,
       json_object('worker', worker, 'redelivered', json('false'))
FROM made WHERE NOT waits
UNION ALL
SELECT 2 * n + 1, n, 'kickoff_finished', 1, 0, 2, created + 9000, created + 9000,
       json_object('status', name, 'duration_s', 8.96)
FROM made WHERE NOT waits;

INSERT INTO reply (kickoff, redrive, heard, bytes, body)
SELECT n, 0, created + 9000, length(body), CAST(body AS BLOB) FROM (
    SELECT n, created, json_object(
        'kickoff_id', id, 'crew', crew, 'status', name,
        'result', iif(status = 2, json_object('kind', 'crew', 'raw', hex(randomblob(75)), 'json', NULL, 'tasks', json('[]')), NULL),
        'error', iif(fails, json_object('kind', 'exception', 'message', hex(randomblob(75))), NULL),
        'attempt', 1, 'redrive', 0, 'executions', 1, 'body_hash', fingerprint, 'worker', worker,
        'requested_at', strftime('%Y-%m-%dT%H:%M:%fZ', created / 1000.0, 'unixepoch'),
        'started_at', strftime('%Y-%m-%dT%H:%M:%fZ', created / 1000.0 + 0.04, 'unixepoch'),
        'finished_at', strftime('%Y-%m-%dT%H:%M:%fZ', created / 1000.0 + 9.0, 'unixepoch'),
        'meta', json_object('tenant', tenant, 'order', n)) AS body
    FROM made WHERE NOT waits);

UPDATE kept SET count = (SELECT count(*) FROM kickoff) WHERE kind = 'kickoff';
UPDATE kept SET (count, bytes) = (SELECT count(*), sum(length(data) + length(type)) FROM event) WHERE kind = 'event';
UPDATE kept SET (count, bytes) = (SELECT count(*), sum(bytes) FROM reply) WHERE kind = 'reply';
