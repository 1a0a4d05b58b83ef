import type { Context } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import { createAccountService } from './account-service.ts'
import { createAuthenticationService } from './authentication-service.ts'
import { createCredentialService } from './credential-service.ts'
import { createPasswords } from './password.ts'
import { createSessionService } from './session-service.ts'
import { createUserDirectory } from './user-directory.ts'

export type UserService = ReturnType<typeof createUserService>

/** The feature as others see it, put together from its parts. `accounts`, `sessions`, `credentials` are for its own routes. */
export function createUserService(context: Context) {
  const passwords = createPasswords(context)
  const authentication = createAuthenticationService(context)
  const { setPassword, ...directory } = createUserDirectory(context, authentication)
  const accounts = createAccountService(context, { users: { ...directory, setPassword }, passwords })
  const sessions = createSessionService(context, { authentication, passwords })
  const credentials = createCredentialService(context, authentication)
  return {
    /** `find`, `isActive`, `list`, `create`, `setStatus`, `onStatusChanged`. */
    ...directory,
    authenticate: authentication.authenticate,
    verifyAgentToken: credentials.verifyAgentToken,
    /** Takes milliseconds on another thread: call it before a transaction, never within. */
    hashPassword: passwords.hash,
    generatePassword: passwords.generate,
    /** Ends all of the user's sessions. Throws `not_found`. */
    resetPassword: (tx: Transaction, userId: string, passwordHash: string) => setPassword(tx, userId, { passwordHash }),
    /** Adds what must end before an account closes: the check throws `account_has_obligations`. */
    onClosing: accounts.onClose,
    /** Adds a feature's part to what users can export, as the field `name`. */
    contributeExport: accounts.contribute,
    accounts,
    sessions,
    credentials,
  }
}
