import { createClient } from '@orbyte/sdk'

/**
 * The one client of the app. It talks to the page's own origin; the access token lives in this tab's memory, the refresh token
 * in a cookie that scripts cannot read.
 */
export const client = createClient({ url: location.origin, refreshInCookie: true })
