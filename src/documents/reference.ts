/**
 * The interactive reference: swagger-ui from node_modules, under a policy that lets the page run our scripts, load from
 * and talk to this origin, and nothing else. It works without any other host.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const STYLE_SHEET = require.resolve('swagger-ui-dist/swagger-ui.css')
const BUNDLE = require.resolve('swagger-ui-dist/swagger-ui-bundle.js')

export const REFERENCE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  // The style sheet's own icons are data: URLs.
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export const REFERENCE_PAGE = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Signet API reference</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/reference.css">
<script src="/docs/swagger-ui-bundle.js" defer></script>
<script src="/docs/reference.js" defer></script>
</head>
<body>
<div id="reference"></div>
<noscript><p>This page needs JavaScript. The same as text: <a href="/docs/api.md">/docs/api.md</a>.</p></noscript>
</body>
</html>
`

/** Requests go to where the page came from, whatever the issuer is called: the policy allows no other place. */
const SCRIPT = `const reference = document.getElementById('reference')
fetch('/openapi.json')
  .then((response) => {
    if (!response.ok) throw new Error(String(response.status))
    return response.json()
  })
  .then((openapi) => {
    SwaggerUIBundle({
      domNode: reference,
      spec: { ...openapi, servers: [{ url: location.origin }] },
      validatorUrl: null,
      deepLinking: true,
      docExpansion: 'list',
      defaultModelsExpandDepth: 0,
      defaultModelRendering: 'example',
      displayRequestDuration: true,
      filter: true,
      persistAuthorization: false,
      syntaxHighlight: { activated: true, theme: 'agate' },
      tryItOutEnabled: true,
    })
  })
  .catch((error) => {
    reference.textContent = 'The reference could not be loaded: ' + error.message
  })
`

const STYLE = `body { margin: 0; }
.swagger-ui .info { margin: 30px 0; }
.swagger-ui .scheme-container { padding: 10px 0; }
noscript p { margin: 2rem; font-family: sans-serif; }
`

/** By file name. */
export const readReferenceFiles = (): Record<string, { type: string; text: string }> => ({
  'reference.css': { type: 'text/css; charset=utf-8', text: STYLE },
  'reference.js': { type: 'text/javascript; charset=utf-8', text: SCRIPT },
  'swagger-ui.css': {
    type: 'text/css; charset=utf-8',
    text: readFileSync(STYLE_SHEET, 'utf8'),
  },
  'swagger-ui-bundle.js': {
    type: 'text/javascript; charset=utf-8',
    text: readFileSync(BUNDLE, 'utf8'),
  },
})
