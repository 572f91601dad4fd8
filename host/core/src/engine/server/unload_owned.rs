//! Unloads instances under the server's lock: those that this program loaded, or by
//! force those of other programs, too.

use std::path::Path;
use std::time::{Duration, Instant};

use super::detect::{ConnectTimeouts, detect_all};
use super::listed_model::ListedInstance;
use super::server_address::ServerAddress;
use super::server_instance::ServerInstance;
use super::server_target::ServerTarget;
use super::{load, model_list};
use crate::engine::lease::is_used;
use crate::engine::ownership::{Ownership, read_unlocked};
use crate::engine::{Error, LoadedInstance, UnloadResult};

/// Interval between attempts to unload an instance that is still loading.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit for a started load to appear in the server's list.
const LIST_UPDATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Unloads `instances`, pairs of model ID and instance, under the server's
/// lock.
///
/// Returns the IDs of the instances that were skipped because another program
/// loaded them, or another process uses them, and `force` is not set.
///
/// # Errors
/// Returns an error if the server does not answer, its lock cannot be taken, or
/// an unload fails.
pub(in crate::engine) async fn unload_instances(
    address: &ServerAddress,
    instances: &[(String, LoadedInstance)],
    force: bool,
    state_dir: &Path,
    lms: Option<&Path>,
    timeouts: ConnectTimeouts,
) -> Result<Vec<String>, Error> {
    let servers = detect_all(std::slice::from_ref(address), true, timeouts).await?;
    let Some(server) = servers.first() else {
        return Err(Error::NoEngine {
            addresses: vec![address.base_url().to_owned()],
        });
    };
    let mut ownership = Ownership::lock(state_dir, server.client.base_url()).await?;
    let mut skipped = Vec::new();
    for (model, instance) in instances {
        let is_owned = ownership.is_owned(&instance.id, instance.context);
        let is_in_use = is_used(state_dir, server.client.base_url(), model, None);
        if force || (is_owned && !is_in_use) {
            load::unload(server, model, &instance.id, lms).await?;
            ownership.release(&instance.id)?;
            continue;
        }
        if is_owned {
            ownership.hand_over(&instance.id)?;
        }
        skipped.push(instance.id.clone());
    }
    Ok(skipped)
}

impl ServerTarget {
    /// Returns whether the process that loaded the instance left its unload to the last
    /// user.
    pub(in crate::engine) fn is_left_to_user(&self, instance: &ServerInstance) -> bool {
        let id = self.current_instance(instance).id;
        let records = read_unlocked(&self.lifecycle.state_dir, self.base_url());
        records
            .iter()
            .any(|record| record.handed_over && record.instance.as_ref() == Some(&id))
    }

    /// Unloads `instance` if this program loaded it, in this run or an earlier
    /// one, and no other process uses it.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or cannot unload.
    pub(in crate::engine) async fn unload_if_owned(
        &self,
        instance: &ServerInstance,
    ) -> Result<UnloadResult, Error> {
        let instance = &self.current_instance(instance);
        let folder = &self.lifecycle.state_dir;
        let mut ownership = Ownership::lock(folder, self.base_url()).await?;
        if !ownership.is_owned(&instance.id, instance.context) {
            return Ok(UnloadResult::NotOwned);
        }
        if self.is_shared() {
            ownership.hand_over(&instance.id)?;
            return Ok(UnloadResult::InUse);
        }
        load::unload(
            &self.server,
            &self.listed.id,
            &instance.id,
            self.lifecycle.lms_path.as_deref(),
        )
        .await?;
        ownership.release(&instance.id)?;
        Ok(UnloadResult::Unloaded)
    }

    /// Unloads the instances of the model that this process loaded, including
    /// one from a load that it started and did not wait for.
    ///
    /// Repeats until none is left, since a server may refuse to unload in the
    /// middle of a load.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or cannot unload.
    pub(in crate::engine) async fn unload_loaded_by_process(&self) -> Result<UnloadResult, Error> {
        let (server, model) = (&self.server, &self.listed.id);
        let mut ownership = Ownership::lock(&self.lifecycle.state_dir, self.base_url()).await?;
        if !ownership.has_loaded_by_process(model) {
            return Ok(UnloadResult::NotOwned);
        }
        let start = Instant::now();
        let mut found_any = false;
        loop {
            let models = model_list::list_models(server).await?;
            let own: Vec<&ListedInstance> = models
                .iter()
                .flat_map(|model| &model.instances)
                .filter(|instance| {
                    ownership.may_be_loaded_by_process(model, &instance.id, instance.context)
                })
                .collect();
            let is_waiting = own.is_empty() && !found_any && ownership.has_pending_load(model);
            if own.is_empty() && !(is_waiting && start.elapsed() < LIST_UPDATE_TIMEOUT) {
                break;
            }
            for instance in own {
                found_any = true;
                // A server may refuse while the instance is still loading.
                let lms = self.lifecycle.lms_path.as_deref();
                if let Err(error) = load::unload(server, model, &instance.id, lms).await
                    && (error.is_unreachable() || matches!(error, Error::Refused { .. }))
                {
                    return Err(error);
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let models = model_list::list_models(server).await?;
        ownership.reconcile(&model_list::all_instances(&models))?;
        Ok(if found_any {
            UnloadResult::Unloaded
        } else {
            UnloadResult::NotOwned
        })
    }
}
