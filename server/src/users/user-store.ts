import type { Role, User } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'

/** `email` is null once the account is closed. */
export type UserRow = Row & {
  id: string
  email: string | null
  name: string | null
  password_hash: string
  role: Role
  status: User['status']
  created_at: string
}

export type NewUser = {
  id: string
  email: string | null
  name: string | null
  passwordHash: string
  role: Role
  at: string
}

export async function insertUser(tx: Transaction, user: NewUser): Promise<void> {
  await tx.run(
    `INSERT INTO users (id, email, name, password_hash, role, status, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, 'active', ?, ?)`,
    ...[user.id, user.email, user.name, user.passwordHash, user.role, user.at, user.at],
  )
}

export function userById(reader: Reader, id: string): Promise<UserRow | undefined> {
  return reader.get<UserRow>('SELECT * FROM users WHERE id = ?', id)
}

export function userByEmail(reader: Reader, email: string): Promise<UserRow | undefined> {
  return reader.get<UserRow>('SELECT * FROM users WHERE email = ?', email)
}

/** Newest first. `emailPart`: any part of the address. */
export function usersBefore(
  reader: Reader,
  query: { before: string; limit: number; emailPart: string | null },
): Promise<UserRow[]> {
  return reader.all<UserRow>(
    'SELECT * FROM users WHERE id < ? AND (? IS NULL OR instr(email, ?) > 0) ORDER BY id DESC LIMIT ?',
    ...[query.before, query.emailPart, query.emailPart, query.limit],
  )
}

export async function updateProfile(
  tx: Transaction,
  user: { id: string; name: string | null; email: string | null; at: string },
): Promise<void> {
  await tx.run(
    'UPDATE users SET name = ?, email = ?, updated_at = ? WHERE id = ?',
    user.name,
    user.email,
    user.at,
    user.id,
  )
}

export async function updatePassword(
  tx: Transaction,
  user: { id: string; passwordHash: string; at: string },
): Promise<void> {
  await tx.run('UPDATE users SET password_hash = ?, updated_at = ? WHERE id = ?', user.passwordHash, user.at, user.id)
}

export async function updateStatus(
  tx: Transaction,
  user: { id: string; status: User['status']; reason: string | null; at: string },
): Promise<void> {
  await tx.run(
    'UPDATE users SET status = ?, suspended_reason = ?, updated_at = ? WHERE id = ?',
    ...[user.status, user.reason, user.at, user.id],
  )
}

/** As everybody who may see it sees it. A closed account has no address left: it shows an empty one. */
export function userView({ id, email, name, role, status, created_at }: UserRow): User {
  return { id, email: email ?? '', name, role, status, created_at }
}
