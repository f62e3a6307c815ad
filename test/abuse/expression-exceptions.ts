/** A60: expressions that take more than linear time for some strings, and why nobody can send such a string. */
export const EXCEPTIONS: readonly { file: string; line: string; reason: string }[] = [
  {
    file: 'src/network/address.ts',
    line: String.raw`/(\d+)\.(\d+)\.(\d+)\.(\d+)$/`,
    reason: 'Runs on what node has found to be an IPv6 address: 45 characters at most.',
  },
  {
    file: 'src/http/json-schema.ts',
    line: String.raw`/\s+(\w)/g`,
    reason: 'Runs on the titles of our own schemas, when the document is made.',
  },
  {
    file: 'src/documents/files.ts',
    line: String.raw`/\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)/g`,
    reason: 'Runs on our own documents, at the start.',
  },
  {
    file: 'src/documents/files.ts',
    line: '/#.*$/',
    reason: 'Runs on the links of our own documents, at the start.',
  },
  {
    file: 'src/database/embedded-postmaster.ts',
    line: '/lock file .* already exists|is still in use/',
    reason: 'Runs on what our own PostgreSQL says as it starts.',
  },
]
