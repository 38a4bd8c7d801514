-- A journal of schema 1, as dayfly wrote it. It never changes.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
-- Times are nanoseconds since 1970 in UTC; 0 is "not yet". To read one:
--   SELECT datetime(created / 1000000000, 'unixepoch') FROM jobs;

CREATE TABLE deliveries (
	id       INTEGER PRIMARY KEY,
	guid     TEXT    NOT NULL UNIQUE,
	event    TEXT    NOT NULL,
	action   TEXT    NOT NULL,
	source   TEXT    NOT NULL,
	received INTEGER NOT NULL,
	job      INTEGER NOT NULL
);

CREATE TABLE jobs (
	id         INTEGER PRIMARY KEY, -- GitHub's
	repo       TEXT    NOT NULL,
	run        INTEGER NOT NULL,
	attempt    INTEGER NOT NULL,
	name       TEXT    NOT NULL,
	workflow   TEXT    NOT NULL,
	url        TEXT    NOT NULL,
	labels     TEXT    NOT NULL, -- a JSON list
	status     TEXT    NOT NULL,
	conclusion TEXT    NOT NULL,
	runner     TEXT    NOT NULL,
	created    INTEGER NOT NULL,
	started    INTEGER NOT NULL,
	ended      INTEGER NOT NULL,
	changed    INTEGER NOT NULL -- when something new was last heard of it
);
CREATE INDEX jobs_open ON jobs (id) WHERE status <> 'completed';
CREATE INDEX jobs_completed ON jobs (changed) WHERE status = 'completed';

CREATE TABLE runners (
	name         TEXT    PRIMARY KEY,
	pool         TEXT    NOT NULL,
	scope        TEXT    NOT NULL,
	node         TEXT    NOT NULL,
	vmid         INTEGER NOT NULL,
	family       TEXT    NOT NULL,
	version      TEXT    NOT NULL,
	source       INTEGER NOT NULL,
	storage      TEXT    NOT NULL,
	registration INTEGER NOT NULL,
	job          INTEGER NOT NULL,
	created      INTEGER NOT NULL,
	cloned       INTEGER NOT NULL,
	launched     INTEGER NOT NULL,
	started      INTEGER NOT NULL,
	listened     INTEGER NOT NULL,
	took         INTEGER NOT NULL,
	ended        INTEGER NOT NULL,
	spent        INTEGER NOT NULL,
	removed      INTEGER NOT NULL,
	cause        TEXT    NOT NULL,
	retry        INTEGER NOT NULL,
	forgotten    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runners_forgotten ON runners (forgotten);
CREATE INDEX runners_job ON runners (job) WHERE job <> 0;

CREATE TABLE intents (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	kind     TEXT    NOT NULL,
	pool     TEXT    NOT NULL,
	runner   TEXT    NOT NULL,
	template INTEGER NOT NULL,
	node     TEXT    NOT NULL,
	reason   TEXT    NOT NULL,
	begun    INTEGER NOT NULL,
	ended    INTEGER NOT NULL,
	outcome  TEXT    NOT NULL
);
CREATE INDEX intents_unfinished ON intents (id) WHERE ended = 0;

-- AUTOINCREMENT: an id is never used again, so that who follows the events
-- by id misses none even after all of them were pruned.
CREATE TABLE events (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	at     INTEGER NOT NULL,
	what   TEXT    NOT NULL,
	job    INTEGER NOT NULL,
	runner TEXT    NOT NULL,
	detail TEXT    NOT NULL
);
CREATE INDEX events_job ON events (job) WHERE job <> 0;
CREATE INDEX events_runner ON events (runner) WHERE runner <> '';

CREATE TABLE facts (
	key     TEXT    PRIMARY KEY,
	value   BLOB    NOT NULL,
	changed INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO deliveries VALUES (1, 'guid-40', 'workflow_job', 'completed', 'webhook', 1772366400000000000, 40);
INSERT INTO deliveries VALUES (2, 'guid-41', 'workflow_job', 'queued', 'webhook', 1772366400000000000, 41);
INSERT INTO jobs VALUES (40, 'acme/app', 7, 1, 'lint', 'ci', '', '["self-hosted"]', 'completed', 'success', 'dayfly-a-0', 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000);
INSERT INTO jobs VALUES (41, 'acme/app', 7, 1, 'build', 'ci', '', '["self-hosted","linux"]', 'queued', '', '', 1772366400000000000, 0, 0, 1772366400000000000);
INSERT INTO runners VALUES ('dayfly-a-0', 'a', 'acme', 'pve', 90000, 'ubuntu', '1', 9000, 'fast', 11, 40, 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000, 1772366400000000000, 0, '', 0, 1772366400000000000);
INSERT INTO runners VALUES ('dayfly-a-1', 'a', 'acme', 'pve', 90001, 'ubuntu', '1', 9000, 'fast', 12, 0, 1772366400000000000, 1772366400000000000, 1772366400000000000, 0, 0, 0, 0, 0, 0, '', 0, 0);
INSERT INTO intents VALUES (1, 'clone', 'a', 'dayfly-a-1', 9000, 'pve', 'demand', 1772366400000000000, 1772366400000000000, 'ok');
INSERT INTO intents VALUES (2, 'launch', 'a', 'dayfly-a-1', 0, 'pve', 'demand', 1772366400000000000, 0, '');
INSERT INTO events VALUES (8, 1772366400000000000, 'queued', 41, '', 'self-hosted, linux');
INSERT INTO events VALUES (9, 1772366400000000000, 'decided', 0, 'dayfly-a-1', 'launch: demand');
INSERT INTO facts VALUES ('instance', x'6c6162', 1772366400000000000);
PRAGMA application_id = 1684109670;
PRAGMA user_version = 1;
COMMIT;
