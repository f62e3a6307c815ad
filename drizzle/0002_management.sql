CREATE TABLE "idempotency_keys" (
	"client_id" text NOT NULL,
	"operation" text NOT NULL,
	"key" text NOT NULL,
	"organization_id" text NOT NULL,
	"fingerprint" "bytea" NOT NULL,
	"status" integer NOT NULL,
	"location" text,
	"body" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotency_keys_client_id_operation_key_pk" PRIMARY KEY("client_id","operation","key")
);
--> statement-breakpoint
ALTER TABLE "delegations" DROP CONSTRAINT "delegations_parties";--> statement-breakpoint
DROP INDEX "clients_organization";--> statement-breakpoint
DROP INDEX "delegations_partner";--> statement-breakpoint
DROP INDEX "keys_client";--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "created_by" text;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "requested_by" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "suspended_by_platform" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "revoked_tokens" ADD COLUMN "organization_id" text NOT NULL;--> statement-breakpoint
ALTER TABLE "revoked_tokens" ADD COLUMN "client_id" text NOT NULL;--> statement-breakpoint
CREATE INDEX "idempotency_keys_age" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "audit_events_target" ON "audit_events" USING btree ("target_id","sequence");--> statement-breakpoint
CREATE INDEX "audit_events_time" ON "audit_events" USING btree ("occurred_at");--> statement-breakpoint
CREATE INDEX "audit_events_actor" ON "audit_events" USING btree ("actor_client_id","sequence");--> statement-breakpoint
CREATE INDEX "clients_of_organization" ON "clients" USING btree ("organization_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "delegations_in_force" ON "delegations" USING btree ("organization_id","partner_id","environment") WHERE status <> 'revoked';--> statement-breakpoint
CREATE INDEX "delegations_given" ON "delegations" USING btree ("organization_id","id");--> statement-breakpoint
CREATE INDEX "delegations_held" ON "delegations" USING btree ("partner_id","id");--> statement-breakpoint
CREATE INDEX "issued_tokens_time" ON "issued_tokens" USING btree ("issued_at");--> statement-breakpoint
CREATE INDEX "issued_tokens_organization" ON "issued_tokens" USING btree ("organization_id","issued_at");--> statement-breakpoint
CREATE INDEX "issued_tokens_client" ON "issued_tokens" USING btree ("client_id","issued_at");--> statement-breakpoint
CREATE INDEX "keys_of_client" ON "keys" USING btree ("client_id","id");--> statement-breakpoint
CREATE INDEX "keys_not_revoked" ON "keys" USING btree ("client_id","id") WHERE revoked_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "keys_replaced" ON "keys" USING btree ("replaces");--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "created_by" text;--> statement-breakpoint
CREATE INDEX "audit_events_action" ON "audit_events" USING btree ("action","sequence");
