-- The default partition of the audit log has one day only, the last there is. PostgreSQL takes that from the constraint when a
-- partition is made for other days, and does not look through what lies here while others wait.

alter table audit_logs_default disable trigger audit_logs_stay;
update audit_logs_default set day = 9223372036854775807 where day <> 9223372036854775807;
alter table audit_logs_default enable trigger audit_logs_stay;

create function audit_logs_undated() returns trigger language plpgsql as $$
begin
    new.day := 9223372036854775807;
    return new;
end $$;
create trigger audit_logs_undated before insert on audit_logs_default for each row execute function audit_logs_undated();
alter table audit_logs_default add constraint audit_logs_default_day check (day = 9223372036854775807);

comment on table audit_logs_default is
    'Entries whose day had no partition of its own when they came, and those that are older than chains. All have the last day '
    'there is.';
comment on table audit_logs is
    'Who did what; a row is written in the same transaction as what it tells of. id counts up in the order of commits. chain, '
    'position and hash say where it hangs; they are empty in rows that are older than chains. day is that of its time or a '
    'later one, or the last there is where that day had no partition: among the entries of a chain that have one it never goes '
    'back, so that whatever is dropped of a chain with a partition is its beginning.';
