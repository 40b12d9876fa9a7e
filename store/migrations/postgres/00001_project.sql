-- +goose Up
CREATE TABLE project (
  name  TEXT PRIMARY KEY,
  value BYTEA NOT NULL
);
