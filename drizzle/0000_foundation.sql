CREATE SEQUENCE "public"."policy_version" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE TABLE "audit_events" (
	"sequence" bigserial PRIMARY KEY NOT NULL,
	"id" text NOT NULL,
	"organization_id" text,
	"actor_client_id" text,
	"actor_key_id" text,
	"actor_organization_id" text,
	"action" text NOT NULL,
	"target_id" text,
	"client_ip" "inet",
	"request_id" text,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"previous_hash" "bytea" NOT NULL,
	"hash" "bytea" NOT NULL,
	"occurred_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "audit_events_id_unique" UNIQUE("id")
);
--> statement-breakpoint
CREATE TABLE "clients" (
	"id" text PRIMARY KEY NOT NULL,
	"organization_id" text NOT NULL,
	"name" text NOT NULL,
	"environment" text NOT NULL,
	"kind" text DEFAULT 'organization' NOT NULL,
	"scopes" text[] NOT NULL,
	"audience" text,
	"max_expiry_seconds" integer DEFAULT 86400 NOT NULL,
	"rate_limit_per_minute" integer DEFAULT 60 NOT NULL,
	"allowed_cidrs" "cidr"[],
	"allowed_origins" text[],
	"status" text NOT NULL,
	"approved_at" timestamp with time zone,
	"approved_by" text,
	"version" bigint DEFAULT nextval('policy_version') NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "clients_status" CHECK ("clients"."status" in ('pending_approval', 'active', 'suspended', 'revoked')),
	CONSTRAINT "clients_kind" CHECK ("clients"."kind" in ('organization', 'partner')),
	CONSTRAINT "clients_environment" CHECK ("clients"."environment" in ('sandbox', 'production')),
	CONSTRAINT "clients_max_expiry" CHECK ("clients"."max_expiry_seconds" between 300 and 86400),
	CONSTRAINT "clients_rate_limit" CHECK ("clients"."rate_limit_per_minute" >= 0)
);
--> statement-breakpoint
CREATE TABLE "delegations" (
	"id" text PRIMARY KEY NOT NULL,
	"organization_id" text NOT NULL,
	"partner_id" text NOT NULL,
	"environment" text NOT NULL,
	"scopes" text[] NOT NULL,
	"max_expiry_seconds" integer DEFAULT 86400 NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"version" bigint DEFAULT nextval('policy_version') NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "delegations_parties" UNIQUE("organization_id","partner_id","environment"),
	CONSTRAINT "delegations_status" CHECK ("delegations"."status" in ('pending', 'active', 'paused', 'revoked')),
	CONSTRAINT "delegations_environment" CHECK ("delegations"."environment" in ('sandbox', 'production')),
	CONSTRAINT "delegations_max_expiry" CHECK ("delegations"."max_expiry_seconds" between 300 and 86400),
	CONSTRAINT "delegations_two_parties" CHECK ("delegations"."organization_id" <> "delegations"."partner_id")
);
--> statement-breakpoint
CREATE TABLE "issued_tokens" (
	"jti" text NOT NULL,
	"issued_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"key_id" text NOT NULL,
	"client_id" text NOT NULL,
	"organization_id" text NOT NULL,
	"environment" text NOT NULL,
	"scopes" text[] NOT NULL,
	"audience" text NOT NULL,
	"kid" text NOT NULL,
	"client_ip" "inet",
	"request_id" text NOT NULL,
	CONSTRAINT "issued_tokens_jti_issued_at_pk" PRIMARY KEY("jti","issued_at")
) PARTITION BY RANGE ("issued_at");
--> statement-breakpoint
CREATE TABLE "key_usage" (
	"key_id" text PRIMARY KEY NOT NULL,
	"last_used_at" timestamp with time zone NOT NULL,
	"last_used_ip" "inet"
);
--> statement-breakpoint
CREATE TABLE "keys" (
	"id" text PRIMARY KEY NOT NULL,
	"client_id" text NOT NULL,
	"lookup_id" text NOT NULL,
	"hash" "bytea" NOT NULL,
	"prefix" text NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"revocation_reason" text,
	"tokens_revoked_at" timestamp with time zone,
	"replaces" text,
	"version" bigint DEFAULT nextval('policy_version') NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "keys_lookup_id" UNIQUE("lookup_id"),
	CONSTRAINT "keys_hash" CHECK (octet_length("keys"."hash") = 32)
);
--> statement-breakpoint
CREATE TABLE "organizations" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"platform" boolean DEFAULT false NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"version" bigint DEFAULT nextval('policy_version') NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "organizations_status" CHECK ("organizations"."status" in ('active', 'suspended'))
);
--> statement-breakpoint
CREATE TABLE "revoked_tokens" (
	"jti" text PRIMARY KEY NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"revoked_at" timestamp with time zone DEFAULT now() NOT NULL,
	"reason" text
);
--> statement-breakpoint
CREATE TABLE "signing_keys" (
	"kid" text PRIMARY KEY NOT NULL,
	"environment" text NOT NULL,
	"alg" text NOT NULL,
	"public_jwk" jsonb NOT NULL,
	"sealed_private_jwk" text NOT NULL,
	"published_at" timestamp with time zone NOT NULL,
	"activates_at" timestamp with time zone NOT NULL,
	"retires_at" timestamp with time zone,
	"removes_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"version" bigint DEFAULT nextval('policy_version') NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "signing_keys_environment" CHECK ("signing_keys"."environment" in ('sandbox', 'production'))
);
--> statement-breakpoint
CREATE TABLE "usage_minutes" (
	"client_id" text NOT NULL,
	"window_start" timestamp with time zone NOT NULL,
	"rate_limit" integer DEFAULT 0 NOT NULL,
	"admitted" integer DEFAULT 0 NOT NULL,
	"limited" integer DEFAULT 0 NOT NULL,
	"denied" integer DEFAULT 0 NOT NULL,
	"last_admitted" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "usage_minutes_client_id_window_start_pk" PRIMARY KEY("client_id","window_start")
);
--> statement-breakpoint
ALTER TABLE "clients" ADD CONSTRAINT "clients_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "delegations" ADD CONSTRAINT "delegations_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "delegations" ADD CONSTRAINT "delegations_partner_id_organizations_id_fk" FOREIGN KEY ("partner_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "keys" ADD CONSTRAINT "keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "keys" ADD CONSTRAINT "keys_replaces_keys_id_fk" FOREIGN KEY ("replaces") REFERENCES "public"."keys"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "audit_events_organization" ON "audit_events" USING btree ("organization_id","sequence");--> statement-breakpoint
CREATE INDEX "clients_organization" ON "clients" USING btree ("organization_id");--> statement-breakpoint
CREATE INDEX "delegations_partner" ON "delegations" USING btree ("partner_id");--> statement-breakpoint
CREATE INDEX "keys_client" ON "keys" USING btree ("client_id");--> statement-breakpoint
CREATE UNIQUE INDEX "organizations_one_platform" ON "organizations" USING btree ("platform") WHERE platform;--> statement-breakpoint
CREATE INDEX "revoked_tokens_expiry" ON "revoked_tokens" USING btree ("expires_at");