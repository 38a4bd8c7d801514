ALTER TABLE runners ADD COLUMN smoked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runners ADD COLUMN passed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runners ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runners ADD COLUMN fault  TEXT    NOT NULL DEFAULT '';
ALTER TABLE runners ADD COLUMN exit   INTEGER NOT NULL DEFAULT 0;

-- How far each pool's roll-out is; body is all of it, in JSON.
CREATE TABLE rollouts (
	pool      TEXT    PRIMARY KEY,
	stable    TEXT    NOT NULL, -- family@version
	candidate TEXT    NOT NULL,
	stage     TEXT    NOT NULL,
	changed   INTEGER NOT NULL,
	body      TEXT    NOT NULL
) WITHOUT ROWID;

-- What became of them: one row for each change.
CREATE TABLE turns (
	id        INTEGER PRIMARY KEY,
	at        INTEGER NOT NULL,
	pool      TEXT    NOT NULL,
	stable    TEXT    NOT NULL,
	candidate TEXT    NOT NULL,
	stage     TEXT    NOT NULL,
	step      INTEGER NOT NULL,
	reason    TEXT    NOT NULL
);
CREATE INDEX turns_pool ON turns (pool, id);
