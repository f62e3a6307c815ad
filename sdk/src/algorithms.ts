type AlgorithmProfile = {
  readonly kty: 'EC' | 'OKP' | 'RSA'
  readonly crv?: string
  /** Public members of a JWK of this kind: the only ones ever handed to WebCrypto. */
  readonly members: readonly string[]
  /** Length of a signature in base64url characters; absent where the key decides it (RSA). */
  readonly signatureCharacters?: number
}

// RFC 7518 §3.4: r and s are concatenated, each as long as the curve's order. 64, 96 and 132 bytes. Base64url
// without padding turns n bytes into ceil(4n / 3) characters, so lengths are compared without decoding.
const ellipticCurve = (crv: string, signatureCharacters: number): AlgorithmProfile => ({
  kty: 'EC',
  crv,
  members: ['kty', 'crv', 'x', 'y'],
  signatureCharacters,
})
const rsa: AlgorithmProfile = { kty: 'RSA', members: ['kty', 'n', 'e'] }
// RFC 8032 §5.1.6: an Ed25519 signature is 64 bytes.
const edwards: AlgorithmProfile = {
  kty: 'OKP',
  crv: 'Ed25519',
  members: ['kty', 'crv', 'x'],
  signatureCharacters: 86,
}

// draft-ietf-oauth-rfc8725bis §3.1: asymmetric algorithms only. HMAC is not "off by default", it is unknown
// here, so that no configuration can make a published key serve as a shared secret.
const PROFILES = {
  ES256: ellipticCurve('P-256', 86),
  ES384: ellipticCurve('P-384', 128),
  ES512: ellipticCurve('P-521', 176),
  RS256: rsa,
  RS384: rsa,
  RS512: rsa,
  PS256: rsa,
  PS384: rsa,
  PS512: rsa,
  Ed25519: edwards,
  EdDSA: edwards,
} as const satisfies Record<string, AlgorithmProfile>

/** JWS algorithms a verifier can be configured with: asymmetric ones only. */
export type VerificationAlgorithm = keyof typeof PROFILES

export const DEFAULT_ALGORITHMS: readonly VerificationAlgorithm[] = ['ES256', 'RS256', 'Ed25519']

export function isVerificationAlgorithm(name: unknown): name is VerificationAlgorithm {
  return typeof name === 'string' && Object.hasOwn(PROFILES, name)
}

export function getAlgorithmProfile(algorithm: VerificationAlgorithm): AlgorithmProfile {
  return PROFILES[algorithm]
}
