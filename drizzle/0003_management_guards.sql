-- The audit trail: append-only, and each row's hash covers the row and the hash before it, so that a row that is
-- changed, taken out or put in breaks the chain (npm run audit:verify names the first such row).
--
-- What the hash covers: this text, in UTF-8. jsonb has one spelling for one value.
CREATE FUNCTION audit_event_text(e audit_events) RETURNS text LANGUAGE sql STABLE
  RETURN jsonb_build_array(e.sequence, e.id, e.organization_id, e.actor_client_id, e.actor_key_id,
    e.actor_organization_id, e.action, e.target_id, host(e.client_ip), e.request_id, e.details,
    to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text;
--> statement-breakpoint

-- The lock puts writers in a row until they commit; it is beside those of policy_lock, which end at 2047. The last
-- link may be another tenant's: for that one look, the connection counts as the platform's. Sessions keep the plan that
-- they made when the table was small, and behind row-level security that would be to read all of it: hence no such scan.
CREATE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  mark text := current_setting('signet.platform', true);
  last record;
BEGIN
  PERFORM pg_advisory_xact_lock(x'73676e74'::integer, 2048);
  PERFORM set_config('signet.platform', 'on', true);
  SELECT sequence, hash INTO last FROM audit_events ORDER BY sequence DESC LIMIT 1;
  PERFORM set_config('signet.platform', coalesce(mark, ''), true);
  NEW.sequence := coalesce(last.sequence, 0) + 1;
  NEW.occurred_at := clock_timestamp();
  NEW.previous_hash := coalesce(last.hash, sha256(''));
  NEW.hash := sha256(NEW.previous_hash || convert_to(audit_event_text(NEW), 'UTF8'));
  RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER chain_audit_event BEFORE INSERT ON audit_events
  FOR EACH ROW EXECUTE FUNCTION chain_audit_event();
--> statement-breakpoint
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
-- The role owns the table, and may give itself back what is taken here: that, and dropping the trigger, are acts that
-- no mistake commits.
REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM CURRENT_USER;
--> statement-breakpoint
ALTER TABLE audit_events ALTER COLUMN sequence DROP DEFAULT;
--> statement-breakpoint
DROP SEQUENCE IF EXISTS audit_events_sequence_seq;
--> statement-breakpoint

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE POLICY tenant ON idempotency_keys USING (is_platform() OR organization_id = current_organization_id());
--> statement-breakpoint

-- Policies by way of a client name the organization themselves: left to the policy of clients, the planner would look
-- at every client of every tenant. A partner sees what its own clients minted, whomever for; an organization what
-- anybody minted for it.
ALTER POLICY tenant ON keys USING (is_platform()
  OR EXISTS (SELECT FROM clients WHERE id = keys.client_id AND organization_id = current_organization_id()));
--> statement-breakpoint
ALTER POLICY tenant ON key_usage USING (is_platform()
  OR EXISTS (SELECT FROM keys JOIN clients ON clients.id = keys.client_id
    WHERE keys.id = key_usage.key_id AND clients.organization_id = current_organization_id()));
--> statement-breakpoint
ALTER POLICY tenant ON usage_minutes USING (is_platform()
  OR EXISTS (SELECT FROM clients WHERE id = usage_minutes.client_id AND organization_id = current_organization_id()));
--> statement-breakpoint
ALTER POLICY tenant ON issued_tokens USING (is_platform() OR organization_id = current_organization_id()
  OR client_id IN (SELECT id FROM clients WHERE organization_id = current_organization_id()));
--> statement-breakpoint
DROP POLICY platform ON revoked_tokens;
--> statement-breakpoint
CREATE POLICY tenant ON revoked_tokens USING (is_platform() OR organization_id = current_organization_id()
  OR client_id IN (SELECT id FROM clients WHERE organization_id = current_organization_id()));
--> statement-breakpoint

-- Both parties see a delegation. The organization that delegates writes it; the partner may ask for one, and give one up,
-- and nothing else: what it may mint is not its own to say.
DROP POLICY tenant ON delegations;
--> statement-breakpoint
CREATE POLICY party ON delegations FOR SELECT USING (is_platform()
  OR organization_id = current_organization_id() OR partner_id = current_organization_id());
--> statement-breakpoint
CREATE POLICY giver ON delegations USING (is_platform() OR organization_id = current_organization_id());
--> statement-breakpoint
CREATE POLICY asking ON delegations FOR INSERT WITH CHECK (partner_id = current_organization_id() AND status = 'pending');
--> statement-breakpoint
CREATE POLICY giving_up ON delegations FOR UPDATE
  USING (partner_id = current_organization_id())
  WITH CHECK (partner_id = current_organization_id() AND status = 'revoked');
