package journal

import "context"

// Put keeps a small fact under key.
func (j *Journal) Put(ctx context.Context, key string, value []byte) error {
	return j.write(ctx, urgent, "put "+key, putting(key, value))
}

func putting(key string, value []byte) func(*tx) error {
	if value == nil {
		value = []byte{}
	}
	return func(t *tx) error {
		_, err := t.exec(`INSERT OR REPLACE INTO facts (key, value, changed) VALUES (?, ?, ?)`, key, value, nano(t.now))
		return err
	}
}

// Put is Journal.Put.
func (l Later) Put(key string, value []byte) {
	l.write("put "+key, putting(key, value))
}

// Get returns the fact kept under key, and whether there is one.
func (j *Journal) Get(ctx context.Context, key string) (value []byte, known bool, err error) {
	err = j.read("get "+key, func(r *session) error {
		known, err = r.one(ctx, []any{&value}, `SELECT value FROM facts WHERE key = ?`, key)
		return err
	})
	return value, known, err
}
