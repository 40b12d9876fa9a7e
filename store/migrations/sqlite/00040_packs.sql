-- +goose Up
-- The contents of flows that were written at once are sealed together. A flow
-- with a pack has an empty content; those of earlier versions stay as they are.
CREATE TABLE packs (
  id      INTEGER PRIMARY KEY, -- of the first of the flows
  content BLOB    NOT NULL
) STRICT;
ALTER TABLE flows ADD COLUMN pack INTEGER; -- NULL: the content stands here
