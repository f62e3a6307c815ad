/** What a verifier says of a token. */
import { VerificationError, type Verifier } from '#sdk'

/** Why it is refused; undefined: it is not. */
export async function codeOf(verifier: Verifier, token: string): Promise<string | undefined> {
  try {
    await verifier.verify(token)
    return undefined
  } catch (error) {
    if (error instanceof VerificationError) return error.code
    throw error
  }
}
