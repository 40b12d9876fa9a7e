-- +goose Up
-- The contents of flows that were written at once are sealed together. A flow
-- with a pack has an empty content; those of earlier versions stay as they are.
CREATE TABLE packs (
  id      BIGINT PRIMARY KEY, -- of the first of the flows
  content BYTEA  NOT NULL
);
ALTER TABLE packs ALTER COLUMN content SET STORAGE EXTERNAL; -- it is compressed
ALTER TABLE flows ADD COLUMN pack BIGINT; -- NULL: the content stands here
