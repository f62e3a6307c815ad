-- The shared version trigger: whatever changes a policy row, in whatever program, raises its version, and with it
-- makes every cached copy of the row stale. The sequence (not version + 1) keeps versions from ever returning.
--
-- Before that, it takes an advisory lock in the row's name: alone, to the end of the transaction. Admissions share
-- these locks (src/ledger/admission.ts), so a change commits after every admission that it does not stop. A waiting
-- change is not overtaken: while it waits, admissions cannot share the lock. A key's lock is that of its client.
--
-- There are 2,048 of them, which rows share by hash: so that a change of a million rows does not fill the server's
-- lock table. What shares a lock with a row that is being changed is held up like the row itself.
CREATE FUNCTION policy_lock(id text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN hashtext(id) & 2047;
--> statement-breakpoint
CREATE FUNCTION guard_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- The first number is "sgnt" in ASCII: it keeps these locks apart from anybody else's.
  PERFORM pg_advisory_xact_lock(x'73676e74'::integer, policy_lock(to_jsonb(OLD) ->> TG_ARGV[0]));
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  NEW.version := nextval('policy_version');
  RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER guard_policy BEFORE UPDATE OR DELETE ON organizations
  FOR EACH ROW EXECUTE FUNCTION guard_policy('id');
--> statement-breakpoint
CREATE TRIGGER guard_policy BEFORE UPDATE OR DELETE ON clients
  FOR EACH ROW EXECUTE FUNCTION guard_policy('id');
--> statement-breakpoint
CREATE TRIGGER guard_policy BEFORE UPDATE OR DELETE ON keys
  FOR EACH ROW EXECUTE FUNCTION guard_policy('client_id');
--> statement-breakpoint
CREATE TRIGGER guard_policy BEFORE UPDATE OR DELETE ON delegations
  FOR EACH ROW EXECUTE FUNCTION guard_policy('id');
--> statement-breakpoint
CREATE TRIGGER guard_policy BEFORE UPDATE OR DELETE ON signing_keys
  FOR EACH ROW EXECUTE FUNCTION guard_policy('kid');
--> statement-breakpoint

-- The other side of the same locks: of the tokens asked for, those whose policy rows are what they were judged by, with
-- their client's rate limit; and so they stay until this transaction has ended. A lock that somebody has, or waits for,
-- is not waited for: what is being changed counts as changed. The locks are taken before the rows are read, in a
-- statement of its own: each statement of a volatile function sees all that was committed before it began.
CREATE FUNCTION still_current(locks jsonb, asked jsonb)
RETURNS TABLE (n integer, jti text, issued_at bigint, expires_at bigint, environment text, scopes text[],
  audience text, client_ip inet, request_id text, key_id text, client_id text, organization_id text, kid text,
  rate_limit integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  busy text[];
BEGIN
  busy := array(SELECT id FROM jsonb_array_elements_text(locks) AS id
    WHERE NOT pg_try_advisory_xact_lock_shared(x'73676e74'::integer, policy_lock(id)));
  RETURN QUERY
    SELECT a.n, a.jti, a.issued_at, a.expires_at, a.environment, a.scopes, a.audience, a.client_ip, a.request_id,
      a.key_id, a.client_id, a.organization_id, a.kid, c.rate_limit_per_minute
    FROM jsonb_to_recordset(asked) AS a (n integer, jti text, issued_at bigint, expires_at bigint, environment text,
      scopes text[], audience text, client_ip inet, request_id text, key_id text, key_version bigint,
      client_id text, client_version bigint, owner_id text, owner_version bigint, organization_id text,
      organization_version bigint, delegation_id text, delegation_version bigint, kid text, kid_version bigint)
    CROSS JOIN LATERAL (
      SELECT rate_limit_per_minute FROM clients
      WHERE id = a.client_id AND version = a.client_version OFFSET 0
    ) c
    WHERE NOT busy && ARRAY[a.client_id, a.owner_id, a.organization_id, a.delegation_id, a.kid]
      AND a.key_version = (SELECT version FROM keys
        WHERE id = a.key_id AND (expires_at IS NULL OR expires_at > now()))
      AND a.owner_version = (SELECT version FROM organizations WHERE id = a.owner_id)
      AND a.organization_version = (SELECT version FROM organizations WHERE id = a.organization_id)
      AND a.kid_version = (SELECT version FROM signing_keys WHERE kid = a.kid)
      AND (a.delegation_id IS NULL
        OR a.delegation_version = (SELECT version FROM delegations WHERE id = a.delegation_id));
END
$$;
--> statement-breakpoint

-- Row-level security, forced, so that it binds the owner of the tables too. Two settings decide what a connection
-- sees: signet.platform = on (the system pool, marked when it connects) sees every row; else
-- signet.organization_id names the one tenant. A connection with neither sees nothing.
CREATE FUNCTION is_platform() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
  RETURN coalesce(current_setting('signet.platform', true), '') = 'on';
--> statement-breakpoint
CREATE FUNCTION current_organization_id() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
  RETURN nullif(current_setting('signet.organization_id', true), '');
--> statement-breakpoint

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON organizations USING (is_platform() OR id = current_organization_id());
--> statement-breakpoint
ALTER TABLE clients ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE clients FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON clients USING (is_platform() OR organization_id = current_organization_id());
--> statement-breakpoint
ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE keys FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON keys USING (is_platform() OR EXISTS (SELECT FROM clients WHERE clients.id = keys.client_id));
--> statement-breakpoint
ALTER TABLE delegations ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE delegations FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON delegations
  USING (is_platform() OR organization_id = current_organization_id() OR partner_id = current_organization_id());
--> statement-breakpoint
ALTER TABLE issued_tokens ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE issued_tokens FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON issued_tokens USING (is_platform() OR organization_id = current_organization_id());
--> statement-breakpoint
ALTER TABLE usage_minutes ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE usage_minutes FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON usage_minutes
  USING (is_platform() OR EXISTS (SELECT FROM clients WHERE clients.id = usage_minutes.client_id));
--> statement-breakpoint
ALTER TABLE key_usage ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE key_usage FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON key_usage USING (is_platform() OR EXISTS (SELECT FROM keys WHERE keys.id = key_usage.key_id));
--> statement-breakpoint
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON audit_events USING (is_platform() OR organization_id = current_organization_id());
--> statement-breakpoint
ALTER TABLE revoked_tokens ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE revoked_tokens FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY platform ON revoked_tokens USING (is_platform());
--> statement-breakpoint
ALTER TABLE signing_keys ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE signing_keys FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY platform ON signing_keys USING (is_platform());
