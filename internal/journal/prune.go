package journal

import (
	"context"
	"fmt"
	"math"
	"time"
)

const (
	// tombstone is how long a completed job is kept in any case: a late
	// `queued` of it must not become demand. All other history is kept as
	// long.
	tombstone = 2 * time.Hour

	// pruned is how many rows one transaction deletes: deliveries come in
	// between.
	pruned = 500
)

// history is a table's rows that may be dropped.
type history struct {
	table  string
	perJob int    // rows kept for each of Options.KeepJobs
	cut    string // the oldest key to keep, by age ?1, number ?2 and in any case ?3
	drop   string // the oldest rows before the key ?1, at most ?2
}

// byTime is history whose rows have an index on the time they ended.
func byTime(table string, perJob int, key, at, over string) history {
	return history{table, perJob,
		fmt.Sprintf(`SELECT min(?3, max(?1, coalesce(
			(SELECT %[1]s FROM %[2]s WHERE %[3]s ORDER BY %[1]s DESC LIMIT 1 OFFSET ?2 - 1), ?1)))`, at, table, over),
		fmt.Sprintf(`DELETE FROM %[1]s WHERE %[2]s IN (
			SELECT %[2]s FROM %[1]s WHERE %[4]s AND %[3]s < ?1 ORDER BY %[3]s LIMIT ?2)`, table, key, at, over),
	}
}

// byID is history written in the order of time, or nearly: what comes before
// the first row that is young enough may go. That spares an index, which every
// write would pay for.
func byID(table string, perJob int, at, over string) history {
	first := fmt.Sprintf(`coalesce((SELECT id FROM %s WHERE %s >= %%s ORDER BY id LIMIT 1), %d)`, table, at, math.MaxInt64)
	return history{table, perJob,
		fmt.Sprintf(`SELECT min(%s, max(%s, coalesce(
			(SELECT id FROM %s WHERE %s ORDER BY id DESC LIMIT 1 OFFSET ?2 - 1), 0)))`,
			fmt.Sprintf(first, "?3"), fmt.Sprintf(first, "?1"), table, over),
		fmt.Sprintf(`DELETE FROM %[1]s WHERE id IN (
			SELECT id FROM %[1]s WHERE %[2]s AND id < ?1 ORDER BY id LIMIT ?2)`, table, over),
	}
}

// histories are what Prune goes through. A job has about four deliveries, one
// runner with four intents, and a dozen events; failed attempts come on top.
var histories = []history{
	byTime("jobs", 1, "id", "changed", "status = 'completed'"),
	byTime("runners", 2, "name", "forgotten", "forgotten <> 0"),
	byID("deliveries", 8, "received", "true"),
	byID("intents", 8, "begun", "ended <> 0"),
	byID("events", 24, "at", "true"),
	// Roll-outs are few, and asked about long after: by number alone.
	{"turns", 1, `SELECT coalesce((SELECT id FROM turns ORDER BY id DESC LIMIT 1 OFFSET 1999 + 0 * (?1 + ?2 + ?3)), 0)`,
		`DELETE FROM turns WHERE id IN (SELECT id FROM turns WHERE id < ?1 ORDER BY id LIMIT ?2)`},
}

// Prune drops history by age and number, in short transactions, and gives room
// back to the file system. It never drops an open job, a runner that is not
// forgotten, an unfinished intent, or what is younger than two hours.
func (j *Journal) Prune(ctx context.Context) error {
	for _, h := range histories {
		if err := j.prune(ctx, h); err != nil {
			return err
		}
	}
	return j.shrink(ctx)
}

func (j *Journal) prune(ctx context.Context, h history) error {
	now := j.opts.Now()
	cut := int64(0)
	err := j.read("prune "+h.table, func(r *session) error {
		_, err := r.one(ctx, []any{&cut}, h.cut,
			nano(now.Add(-j.opts.Keep)), h.perJob*j.opts.KeepJobs, nano(now.Add(-tombstone)))
		return err
	})
	if err != nil {
		return err
	}
	for n := int64(pruned); n == pruned; {
		err := j.write(ctx, urgent, "prune "+h.table, func(t *tx) error {
			res, err := t.exec(h.drop, cut, pruned)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// spare is how many free pages the file may keep, besides a quarter of it, to
// be used again.
const spare = 1000

// shrink gives free pages back when there are many, as after a burst.
func (j *Journal) shrink(ctx context.Context) error {
	for shrunk := false; ; shrunk = true {
		var pages, free int
		err := j.read("count free pages", func(r *session) error {
			_, err := r.one(ctx, []any{&pages, &free},
				`SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count`)
			return err
		})
		switch {
		case err != nil:
			return err
		case free > spare+pages/4:
		case shrunk:
			return j.foldNow() // until then only the log says that the file is smaller
		default:
			return nil
		}
		err = j.write(ctx, urgent, "shrink the file", func(t *tx) error {
			_, err := t.exec("PRAGMA incremental_vacuum(500)")
			return err
		})
		if err != nil {
			return err
		}
	}
}
