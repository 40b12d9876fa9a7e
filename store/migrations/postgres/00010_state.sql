-- +goose Up
CREATE TABLE state (
  kind    TEXT NOT NULL,
  owner   TEXT NOT NULL,
  name    TEXT NOT NULL,
  version BIGINT NOT NULL,
  fence   BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  value   BYTEA NOT NULL,
  PRIMARY KEY (kind, owner, name)
);
