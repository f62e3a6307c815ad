-- Cut-offs. Whatever stops something from minting also revokes the tokens that came of it: those issued until then. They
-- do not come back when it goes on. (A key says for itself whether its tokens go with it.)
--
-- An instance's clock may be ahead of this database's, and with it the moment that its last tokens name: the cut-off is
-- not before that. Those tokens are all here: guard_policy, which is earlier in the alphabet, has the lock that the
-- admission of the last one had.
CREATE FUNCTION cut_off() RETURNS timestamptz LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
  mark text := current_setting('signet.platform', true);
  -- In a variable, or no index could be used: the function is volatile, and would be asked anew for each row.
  at timestamptz := clock_timestamp();
  newest timestamptz;
BEGIN
  PERFORM set_config('signet.platform', 'on', true);
  SELECT max(issued_at) INTO newest FROM issued_tokens
    WHERE issued_at > at AND issued_at < at + interval '1 minute';
  PERFORM set_config('signet.platform', coalesce(mark, ''), true);
  RETURN greatest(at, newest);
END
$$;
--> statement-breakpoint
CREATE FUNCTION revoke_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.tokens_revoked_at := cut_off();
  RETURN NEW;
END
$$;
--> statement-breakpoint
UPDATE clients SET tokens_revoked_at = now() WHERE status IN ('suspended', 'revoked');
--> statement-breakpoint
UPDATE organizations SET tokens_revoked_at = now() WHERE status = 'suspended';
--> statement-breakpoint
UPDATE delegations SET tokens_revoked_at = now() WHERE status IN ('paused', 'revoked');
--> statement-breakpoint
CREATE TRIGGER revoke_tokens BEFORE UPDATE ON clients FOR EACH ROW
  WHEN (NEW.status IN ('suspended', 'revoked') AND NEW.status <> OLD.status) EXECUTE FUNCTION revoke_tokens();
--> statement-breakpoint
CREATE TRIGGER revoke_tokens BEFORE UPDATE ON organizations FOR EACH ROW
  WHEN (NEW.status = 'suspended' AND NEW.status <> OLD.status) EXECUTE FUNCTION revoke_tokens();
--> statement-breakpoint
CREATE TRIGGER revoke_tokens BEFORE UPDATE ON delegations FOR EACH ROW
  WHEN (NEW.status IN ('paused', 'revoked') AND NEW.status <> OLD.status) EXECUTE FUNCTION revoke_tokens();
--> statement-breakpoint
CREATE TRIGGER revoke_tokens BEFORE UPDATE ON keys FOR EACH ROW
  WHEN (NEW.tokens_revoked_at IS NOT NULL AND OLD.tokens_revoked_at IS NULL) EXECUTE FUNCTION revoke_tokens();
--> statement-breakpoint
CREATE INDEX clients_tokens_revoked ON clients (tokens_revoked_at) WHERE tokens_revoked_at IS NOT NULL;
--> statement-breakpoint
CREATE INDEX organizations_tokens_revoked ON organizations (tokens_revoked_at) WHERE tokens_revoked_at IS NOT NULL;
--> statement-breakpoint
CREATE INDEX delegations_tokens_revoked ON delegations (tokens_revoked_at) WHERE tokens_revoked_at IS NOT NULL;
--> statement-breakpoint

-- All revocations that still matter, in one place: the revocation feed is made of it, and introspection asks it. A token
-- is revoked when `kind` and `id` name one of its claims (`jti`: of its subject_jtis, too) and its `iat` is less than `before` (in seconds of Unix time;
-- null: whatever its iat). A row leaves when every token that it could name has expired, with a quarter of an hour for clocks that
-- differ.
--
-- A signing key is revoked because somebody else may have it, who writes any iat: its cut-off is as far ahead as such a
-- token could be believed. That is for as long as a verifier that cannot fetch the key set may go on with an old one: a week
-- (jwksMaxStaleSeconds of the SDK).
CREATE FUNCTION seconds_after(cut_off timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN floor(extract(epoch FROM cut_off))::bigint + 1;
--> statement-breakpoint
CREATE VIEW revocations (environment, kind, id, partner_id, before) AS
  SELECT coalesce(r.environment, (SELECT c.environment FROM clients c WHERE c.id = r.client_id)), 'jti', r.jti, NULL::text,
    NULL::bigint
    FROM revoked_tokens r WHERE r.expires_at > now() - interval '15 minutes'
  UNION ALL
  SELECT c.environment, 'key_id', k.id, NULL, seconds_after(k.tokens_revoked_at)
    FROM keys k JOIN clients c ON c.id = k.client_id
    WHERE k.tokens_revoked_at > now() - interval '1 day 15 minutes'
  UNION ALL
  SELECT environment, 'client_id', id, NULL, seconds_after(tokens_revoked_at)
    FROM clients WHERE tokens_revoked_at > now() - interval '1 day 15 minutes'
  UNION ALL
  SELECT e.environment, 'organization_id', o.id, NULL, seconds_after(o.tokens_revoked_at)
    FROM organizations o CROSS JOIN (VALUES ('sandbox'), ('production')) AS e (environment)
    WHERE o.tokens_revoked_at > now() - interval '1 day 15 minutes'
  UNION ALL
  SELECT environment, 'delegation', organization_id, partner_id, max(seconds_after(tokens_revoked_at))
    FROM delegations WHERE tokens_revoked_at > now() - interval '1 day 15 minutes'
    GROUP BY environment, organization_id, partner_id
  UNION ALL
  SELECT environment, 'kid', kid, NULL, seconds_after(revoked_at + interval '8 days')
    FROM signing_keys WHERE revoked_at > now() - interval '9 days 15 minutes';
--> statement-breakpoint

-- Another text whenever a revocation has been added: what the feed asks every two seconds. Of the tables themselves, without
-- the clients that the view joins: with 100,000 revocations that is the difference between 0.1 and 0.7 s. What no longer matters
-- leaves it once an hour: else everything would be read anew each time that something does.
CREATE FUNCTION revocation_digest() RETURNS text LANGUAGE sql STABLE
  RETURN (SELECT string_agg(concat_ws(' ', kind, n, total), ',' ORDER BY kind) FROM (
    SELECT 'jti' AS kind, count(*) AS n, sum(hashtextextended(jti, 0)::numeric) AS total
      FROM revoked_tokens WHERE expires_at > date_trunc('hour', now()) - interval '15 minutes'
    UNION ALL SELECT 'key_id', count(*), sum(hashtextextended(id || tokens_revoked_at, 0)::numeric)
      FROM keys WHERE tokens_revoked_at > date_trunc('hour', now()) - interval '1 day 15 minutes'
    UNION ALL SELECT 'client_id', count(*), sum(hashtextextended(id || tokens_revoked_at, 0)::numeric)
      FROM clients WHERE tokens_revoked_at > date_trunc('hour', now()) - interval '1 day 15 minutes'
    UNION ALL SELECT 'organization_id', count(*), sum(hashtextextended(id || tokens_revoked_at, 0)::numeric)
      FROM organizations WHERE tokens_revoked_at > date_trunc('hour', now()) - interval '1 day 15 minutes'
    UNION ALL SELECT 'delegation', count(*), sum(hashtextextended(id || tokens_revoked_at, 0)::numeric)
      FROM delegations WHERE tokens_revoked_at > date_trunc('hour', now()) - interval '1 day 15 minutes'
    UNION ALL SELECT 'kid', count(*), sum(hashtextextended(kid || revoked_at, 0)::numeric)
      FROM signing_keys WHERE revoked_at > date_trunc('hour', now()) - interval '9 days 15 minutes'
  ) AS each);
--> statement-breakpoint

-- still_current, as it was (0001_guards.sql), and one question more: a token that is had for others leaves only while none of
-- them is revoked. (No lock is needed: one that leaves at the same moment names them, and is revoked with them.)
DROP FUNCTION still_current(jsonb, jsonb);
--> statement-breakpoint
CREATE FUNCTION still_current(locks jsonb, asked jsonb)
RETURNS TABLE (n integer, jti text, issued_at bigint, expires_at bigint, environment text, scopes text[],
  audience text, client_ip inet, request_id text, subject_jtis text[], key_id text, client_id text,
  organization_id text, kid text, rate_limit integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  busy text[];
BEGIN
  busy := array(SELECT id FROM jsonb_array_elements_text(locks) AS id
    WHERE NOT pg_try_advisory_xact_lock_shared(x'73676e74'::integer, policy_lock(id)));
  RETURN QUERY
    SELECT a.n, a.jti, a.issued_at, a.expires_at, a.environment, a.scopes, a.audience, a.client_ip, a.request_id,
      a.subject_jtis, a.key_id, a.client_id, a.organization_id, a.kid, c.rate_limit_per_minute
    FROM jsonb_to_recordset(asked) AS a (n integer, jti text, issued_at bigint, expires_at bigint, environment text,
      scopes text[], audience text, client_ip inet, request_id text, subject_jtis text[], key_id text,
      key_version bigint, client_id text, client_version bigint, owner_id text, owner_version bigint,
      organization_id text, organization_version bigint, delegation_id text, delegation_version bigint, kid text,
      kid_version bigint)
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
        OR a.delegation_version = (SELECT version FROM delegations WHERE id = a.delegation_id))
      AND (a.subject_jtis IS NULL
        OR NOT EXISTS (SELECT FROM revoked_tokens r WHERE r.jti = ANY (a.subject_jtis)));
END
$$;
--> statement-breakpoint
ALTER TABLE client_assertions ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE client_assertions FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY platform ON client_assertions USING (is_platform());
