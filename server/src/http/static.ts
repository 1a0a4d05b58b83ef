import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'

/** The agent's npm tarball, whose name carries its version: npm keeps tarballs by their URL. */
export async function mountDownloads(app: FastifyInstance, root: string) {
  await app.register(fastifyStatic, { root, prefix: '/downloads/', index: false, decorateReply: false, list: false })
}
