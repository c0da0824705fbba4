-- What ended, counted as it ends: by intervals of several lengths (step, in ms), so that a window of any length is few rows.
-- The tenant '' has all kickoffs, whosever they are.
CREATE TABLE tally (
    step INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    -- When the interval begins (ms).
    time INTEGER NOT NULL,
    crew TEXT NOT NULL,
    status INTEGER NOT NULL,
    -- How long they ran, as a row of tally_bound; -1 for those that never ran.
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (step, tenant, time, crew, status, bucket)
) WITHOUT ROWID;

-- Tokens, by when they were spent. The model '' is one that nobody named. Wasted ones are counted twice: when they are spent,
-- and as wasted when that is known.
CREATE TABLE spend (
    step INTEGER NOT NULL,
    time INTEGER NOT NULL,
    crew TEXT NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    retried INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    PRIMARY KEY (step, time, crew, tenant, model)
) WITHOUT ROWID;

-- The tokens of each attempt, as far as they are told.
CREATE TABLE spent (
    kickoff INTEGER NOT NULL,
    redrive INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    model TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    wasted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kickoff, redrive, attempt, model)
) WITHOUT ROWID;
CREATE TRIGGER spent_of_kickoff AFTER DELETE ON kickoff BEGIN
    DELETE FROM spent WHERE kickoff = old.number;
END;

-- Who paused, resumed or drained what last, at this gateway.
CREATE TABLE steering (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    token TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- The least duration (ms) of each bucket: four to a doubling.
CREATE TABLE tally_bound (bucket INTEGER PRIMARY KEY, ms INTEGER NOT NULL UNIQUE);
INSERT INTO tally_bound VALUES
(0, 0), (1, 10), (2, 12), (3, 14), (4, 17), (5, 20), (6, 24), (7, 28), (8, 34), (9, 40), (10, 48), (11, 57),
(12, 67), (13, 80), (14, 95), (15, 113), (16, 135), (17, 160), (18, 190), (19, 226), (20, 269), (21, 320),
(22, 381), (23, 453), (24, 538), (25, 640), (26, 761), (27, 905), (28, 1076), (29, 1280), (30, 1522), (31, 1810),
(32, 2153), (33, 2560), (34, 3044), (35, 3620), (36, 4305), (37, 5120), (38, 6089), (39, 7241), (40, 8611),
(41, 10240), (42, 12177), (43, 14482), (44, 17222), (45, 20480), (46, 24355), (47, 28963), (48, 34443), (49, 40960),
(50, 48710), (51, 57926), (52, 68886), (53, 81920), (54, 97420), (55, 115852), (56, 137772), (57, 163840),
(58, 194840), (59, 231705), (60, 275545), (61, 327680), (62, 389679), (63, 463410), (64, 551090), (65, 655360),
(66, 779359), (67, 926819), (68, 1102180), (69, 1310720), (70, 1558718), (71, 1853638), (72, 2204359),
(73, 2621440), (74, 3117435), (75, 3707276), (76, 4408719), (77, 5242880), (78, 6234870), (79, 7414552),
(80, 8817438), (81, 10485760), (82, 12469740), (83, 14829104), (84, 17634876), (85, 20971520), (86, 24939481),
(87, 29658208), (88, 35269752), (89, 41943040), (90, 49878962), (91, 59316416), (92, 70539504), (93, 83886080),
(94, 99757923), (95, 118632832), (96, 141079008), (97, 167772160), (98, 199515846), (99, 237265664),
(100, 282158016);
