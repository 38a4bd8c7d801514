-- Where a job's code comes from, in JSON: access rules go by it.
ALTER TABLE jobs ADD COLUMN origin TEXT NOT NULL DEFAULT '{}';
