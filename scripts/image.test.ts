import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { agentFlags } from '@orbyte/agent/agent-config.ts'
import manifest from '../package.json' with { type: 'json' }
import { serverVariables } from './generators/environment-reference.ts'
import { repository } from './stamps.mjs'

// What can be said of the container image without an engine that builds it; e2e/image.test.ts builds and runs it.

const read = (path: string) => readFileSync(join(repository, path), 'utf8')
const dockerfile = read('Dockerfile')
const { load } = createRequire(import.meta.url)('js-yaml') as { load(text: string): unknown }

const Environment = z.record(z.string(), z.string().nullable())
const Service = z.looseObject({
  environment: Environment,
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal('ALL')]),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  init: z.literal(true),
  volumes: z.array(z.string()).length(1),
})
const services = z.strictObject({ market: Service, 'demo-agent': Service, 'gpu-agent': Service })
const compose = z.looseObject({ services, volumes: z.record(z.string(), z.null()) }).parse(load(read('compose.yaml')))

test('each workspace is in the image’s context, and npm finds its manifest before it installs', () => {
  const context = read('.dockerignore').split('\n')
  const copied = [...dockerfile.matchAll(/^COPY (\S+)\/package\.json \1\/$/gm)].map(([, workspace]) => workspace)
  expect(copied.sort()).toEqual([...manifest.workspaces].sort())
  expect(manifest.workspaces.filter((workspace) => !context.includes(`!${workspace}`))).toEqual([])
})

test('nothing reaches the image’s context that is not named, and no settings at all', () => {
  const rules = read('.dockerignore')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
  expect(rules[0]).toBe('*')
  expect(rules).toContain('**/.env*')
})

test('a market in Compose takes every setting but those that the image has settled', () => {
  const settled = ['DATABASE_URL', 'DOWNLOADS_PATH', 'HOST', 'MODELS_PATH', 'PORT', 'WEB_PATH']
  const known = serverVariables().map(({ name }) => name)
  expect(Object.keys(compose.services.market.environment).sort()).toEqual(
    known.filter((name) => !settled.includes(name)).sort(),
  )
  expect(settled.filter((name) => !known.includes(name))).toEqual([])
})

test('agents in Compose are given settings that agents have', () => {
  const known = Object.values(agentFlags).flatMap((flag) => ('env' in flag ? [flag.env, `${flag.env}_FILE`] : []))
  const given = [compose.services['demo-agent'], compose.services['gpu-agent']].flatMap(({ environment }) =>
    Object.keys(environment).filter((name) => name.startsWith('ORBYTE_') && name !== 'ORBYTE_URL'),
  )
  expect(given.length).toBeGreaterThan(3)
  expect(given.filter((name) => !known.includes(name))).toEqual([])
})

test('what each service writes lasts in a volume of its own, where the image keeps it', () => {
  const mounts = Object.entries(compose.services).map(([name, { volumes }]) => [`${name}:/data`, volumes[0]])
  expect(mounts.map(([, mounted]) => mounted)).toEqual(mounts.map(([expected]) => expected))
  expect(Object.keys(compose.volumes)).toEqual(Object.keys(compose.services))
  expect(dockerfile).toMatch(/^VOLUME \/data$/m)
})
