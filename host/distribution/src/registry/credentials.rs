//! Credentials for a registry, as `docker login` and `oras login` keep them.

use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use fs_err as fs;
use oci_client::secrets::RegistryAuth;

use super::reference::OciReference;

/// The key of Docker Hub in Docker's config.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The output of credential helpers for an unknown registry.
const NOT_FOUND: &str = "credentials not found";

/// Where credentials are read from.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Docker's config file, `config.json`; it may not exist.
    pub docker_config: Option<PathBuf>,
}

impl Credentials {
    /// Returns the credentials for the registry of a reference. Without credentials, the access is
    /// anonymous; a reason to tell the user is returned, too.
    pub(super) async fn get(&self, reference: &OciReference) -> (RegistryAuth, Option<String>) {
        let Some(path) = self.docker_config.clone().filter(|path| path.is_file()) else {
            return (RegistryAuth::Anonymous, None);
        };
        let server = match reference.registry() {
            "docker.io" | "index.docker.io" => DOCKER_HUB_KEY.to_owned(),
            registry => registry.to_owned(),
        };
        let in_message = format!("no credentials for {server} from {}", path.display());
        // The config may name a program that is called for them.
        let read = tokio::task::spawn_blocking(move || read(&path, &server)).await;
        match read {
            Ok(Ok(auth)) => (auth, None),
            Ok(Err(reason)) => (
                RegistryAuth::Anonymous,
                Some(format!("{in_message}: {reason}")),
            ),
            Err(error) => (
                RegistryAuth::Anonymous,
                Some(format!("{in_message}: {error}")),
            ),
        }
    }
}

fn read(path: &Path, server: &str) -> Result<RegistryAuth, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    match docker_credential::get_credential_from_reader(std::io::BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => {
            Err("identity tokens are not supported".to_owned())
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains(NOT_FOUND) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        // The output of a helper may hold the password.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            Err(format!("`{helper}` failed"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_come_from_the_docker_config() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        // `bWU6c2VjcmV0` is `me:secret`.
        let config = r#"{
            "auths": {
                "localhost:5000": { "auth": "bWU6c2VjcmV0" },
                "token.example": { "identitytoken": "t" },
                "https://index.docker.io/v1/": { "auth": "bWU6c2VjcmV0" }
            },
            "credHelpers": { "helper.example": "missing-for-lmstrix-tests" }
        }"#;
        fs::write(&path, config).unwrap();
        let credentials = Credentials {
            docker_config: Some(path.clone()),
        };
        for (reference, has_auth, message) in [
            ("localhost:5000/adam", true, ""),
            ("docker.io/me/adam", true, ""),
            ("other.example/adam", false, ""),
            (
                "token.example/adam",
                false,
                "identity tokens are not supported",
            ),
            (
                "helper.example/adam",
                false,
                "communicate with credential helper",
            ),
        ] {
            let (auth, warning) = credentials.get(&reference.parse().unwrap()).await;
            assert_eq!(auth != RegistryAuth::Anonymous, has_auth, "{reference}");
            let warning = warning.unwrap_or_default();
            assert!(warning.contains(message), "{reference}: {warning}");
            assert_eq!(warning.is_empty(), message.is_empty(), "{warning}");
        }
        fs::write(&path, "no JSON").unwrap();
        let (_, warning) = credentials
            .get(&"localhost:5000/adam".parse().unwrap())
            .await;
        assert!(warning.unwrap().contains("Unable to read config"));
    }
}
