CREATE TABLE "client_assertions" (
	"client_id" text NOT NULL,
	"jti" text NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "client_assertions_client_id_jti_pk" PRIMARY KEY("client_id","jti")
);
--> statement-breakpoint
ALTER TABLE "keys" ALTER COLUMN "lookup_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "keys" ALTER COLUMN "hash" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "keys" ALTER COLUMN "prefix" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "tokens_revoked_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "delegations" ADD COLUMN "tokens_revoked_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "issued_tokens" ADD COLUMN "subject_jtis" text[];--> statement-breakpoint
ALTER TABLE "keys" ADD COLUMN "public_jwk" jsonb;--> statement-breakpoint
ALTER TABLE "organizations" ADD COLUMN "tokens_revoked_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "revoked_tokens" ADD COLUMN "environment" text;--> statement-breakpoint
CREATE INDEX "client_assertions_expiry" ON "client_assertions" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "keys_tokens_revoked" ON "keys" USING btree ("tokens_revoked_at") WHERE tokens_revoked_at is not null;--> statement-breakpoint
ALTER TABLE "keys" ADD CONSTRAINT "keys_one_kind" CHECK (num_nonnulls("keys"."lookup_id", "keys"."hash", "keys"."prefix") = case when "keys"."public_jwk" is null then 3 else 0 end);