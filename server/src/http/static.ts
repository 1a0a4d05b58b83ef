import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { notFoundHandler } from './problems.ts'

/** The agent's npm tarball, whose name carries its version: npm keeps tarballs by their URL. */
export async function mountDownloads(app: FastifyInstance, root: string) {
  await app.register(fastifyStatic, { root, prefix: '/downloads/', index: false, decorateReply: false, list: false })
}

const yearS = 365 * 86_400
/** What this server answers itself, and files: where they are not there, no page of the app is. */
const notPages = /^\/(api|downloads|_app)(\/|$)|\.\w+$/

/**
 * The built web app on the server's own port. Its files with a hash in their name never change; any path that is no file and
 * not the API's is a page of the app, which finds out by itself what to show.
 */
export async function mountWebApp(app: FastifyInstance, root: string) {
  const page = await readFile(join(root, 'index.html'), 'utf8')
  const policy = contentSecurityPolicy(page)
  await app.register(fastifyStatic, {
    root,
    index: false,
    decorateReply: false,
    list: false,
    wildcard: false,
    cacheControl: false,
    globIgnore: ['**/index.html'],
    setHeaders(reply, path) {
      const isImmutable = path.replaceAll('\\', '/').includes('/_app/immutable/')
      reply.setHeader('cache-control', isImmutable ? `public, max-age=${yearS}, immutable` : 'no-cache')
    },
  })
  const sendPage = (reply: FastifyReply) =>
    reply
      .header('content-security-policy', policy)
      .header('cache-control', 'no-cache')
      .header('cross-origin-opener-policy', 'same-origin')
      .type('text/html; charset=utf-8')
      .send(page)
  const notFound = notFoundHandler()
  app.get('/', async (_request, reply) => sendPage(reply))
  app.get('/*', async (request: FastifyRequest, reply) => {
    const path = request.url.split('?')[0]!
    return notPages.test(path) ? notFound(request, reply) : sendPage(reply)
  })
}

/** Only what this server serves runs, and of what stands in the page itself only what stood in it when it was built. */
function contentSecurityPolicy(page: string): string {
  const inline = [...page.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(([, script]) => `'sha256-${sha256(script!)}'`)
  return [
    `default-src 'none'`,
    `script-src ${["'self'", ...inline].join(' ')}`,
    // What the framework hides its announcements to screen readers with.
    `style-src 'self' 'unsafe-hashes' 'sha256-S8qMpvofolR8Mpjy4kQvEm7m1q8clzU4dfDH0AmvZjo='`,
    `img-src 'self' blob: data:`,
    `font-src 'self'`,
    `connect-src 'self'`,
    `manifest-src 'self'`,
    `form-action 'self'`,
    `base-uri 'none'`,
    `frame-ancestors 'none'`,
  ].join('; ')
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}
