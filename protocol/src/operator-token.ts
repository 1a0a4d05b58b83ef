/** Who signs access tokens and operator tokens: the `iss` claim of both. */
export const tokenIssuer = 'orbyte'
/** The `sub` claim of an operator token. A user's id never reads like this. */
export const operatorSubject = 'operator'
/** How old an operator token may be. */
export const operatorTokenMsMax = 5 * 60_000

/**
 * A token for whoever holds the market's secret key: it opens administration, so that the first administrator can be made on a
 * market that has no accounts and no default password. A JWT (HS256), made with WebCrypto alone, so that the command line can
 * sign what the server verifies.
 */
export async function signOperatorToken(secretKey: string, nowMs: number): Promise<string> {
  const issuedAtS = Math.floor(nowMs / 1_000)
  const header = { alg: 'HS256', typ: 'JWT' }
  const claims = {
    sub: operatorSubject,
    role: 'admin',
    iss: tokenIssuer,
    iat: issuedAtS,
    exp: issuedAtS + operatorTokenMsMax / 1_000,
  }
  const signed = `${encodeJson(header)}.${encodeJson(claims)}`
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  const key = await crypto.subtle.importKey('raw', utf8(secretKey), algorithm, false, ['sign'])
  return `${signed}.${base64url(new Uint8Array(await crypto.subtle.sign('HMAC', key, utf8(signed))))}`
}

const utf8 = (text: string) => new TextEncoder().encode(text)
const encodeJson = (value: object) => base64url(utf8(JSON.stringify(value)))

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '')
}
