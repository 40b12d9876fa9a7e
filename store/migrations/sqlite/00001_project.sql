-- +goose Up
CREATE TABLE project (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT;
