(* The retention law: from log q, mirror steps (natural gradient) with entropy alpha and KL beta keep
   log pi = kappa log q + tau r + const with kappa = 1 - alpha tau exactly, whatever the constants are that normalize.
   The flow in continuous time obeys the same law, and nothing else solves it. *)
Require Import Reals Lra.
Open Scope R_scope.

Section Retention.
Variable A : Type.
Variables alpha beta : R.
Definition c := alpha + beta.
Variables log_q r : A -> R.

Definition shaped (log_pi : A -> R) y := r y - alpha * log_pi y - beta * (log_pi y - log_q y).

(* ---- mirror steps of size eta; n k is what normalization adds in step k ---- *)
Section Steps.
Variable eta : R.
Variable n : nat -> R.
Variable L : nat -> A -> R.
Hypothesis start : forall y, L 0 y = log_q y.
Hypothesis step : forall k y, L (S k) y = L k y + eta * shaped (L k) y + n k.

Fixpoint tau (k : nat) : R := match k with O => 0 | S j => tau j + eta * (1 - c * tau j) end.

Theorem retention_steps k : exists const, forall y, L k y = (1 - alpha * tau k) * log_q y + tau k * r y + const.
Proof.
  induction k as [|k [const H]].
  - exists 0. intros y. rewrite start. simpl. ring.
  - exists ((1 - eta * c) * const + n k). intros y. rewrite step. unfold shaped. rewrite (H y). simpl. unfold c. ring.
Qed.

(* The reward pressure in closed form; without a regularizer, c = 0, it is eta k. *)
Theorem pressure k : c * tau k = 1 - (1 - eta * c) ^ k.
Proof. induction k as [|k IH]; simpl; [ring|]. rewrite !Rmult_plus_distr_l, <- !Rmult_assoc. nra. Qed.

Theorem pressure_unregularized k : c = 0 -> tau k = eta * INR k.
Proof. intros E. induction k as [|k IH]; [simpl; ring|]. rewrite S_INR. simpl. rewrite IH, E. ring. Qed.

(* KL alone keeps the reference whole. *)
Theorem kl_keeps k : alpha = 0 -> 1 - alpha * tau k = 1.
Proof. intros ->. ring. Qed.

(* Entropy alone forgets it geometrically. *)
Theorem entropy_forgets k : beta = 0 -> 1 - alpha * tau k = (1 - eta * alpha) ^ k.
Proof. intros E. pose proof (pressure k) as P. unfold c in P. rewrite E, !Rplus_0_r in P. lra. Qed.
End Steps.

(* ---- the flow: log-policies whose differences between responses move as the differences of the shaped reward ---- *)
Section Flow.
Hypothesis c_nonzero : c <> 0.
Definition flow_tau t := (1 - exp (- c * t)) / c.
Definition path t y := (1 - alpha * flow_tau t) * log_q y + flow_tau t * r y.

Lemma decay_rate t : derivable_pt_lim (fun t => exp (- c * t)) t (- c * exp (- c * t)).
Proof.
  replace (- c * exp (- c * t)) with (exp (- c * t) * (- c * 1)) by ring.
  apply (derivable_pt_lim_comp (fun t => - c * t) exp).
  - apply (derivable_pt_lim_scal id (- c)), derivable_pt_lim_id.
  - apply derivable_pt_lim_exp.
Qed.

Lemma flow_tau_rate t : derivable_pt_lim flow_tau t (exp (- c * t)).
Proof.
  assert (D : derivable_pt_lim (fun t => / c * (1 - exp (- c * t))) t (/ c * (0 - - c * exp (- c * t)))).
  { apply (derivable_pt_lim_scal (fun t => 1 - exp (- c * t))).
    apply (derivable_pt_lim_minus (fun _ => 1)); [apply derivable_pt_lim_const|apply decay_rate]. }
  replace (exp (- c * t)) with (/ c * (0 - - c * exp (- c * t))) by (field; exact c_nonzero).
  intros eps He. destruct (D eps He) as [delta H]. exists delta. intros h N B. specialize (H h N B).
  unfold flow_tau. replace ((1 - exp (- c * (t + h))) / c) with (/ c * (1 - exp (- c * (t + h)))) by (unfold Rdiv; ring).
  replace ((1 - exp (- c * t)) / c) with (/ c * (1 - exp (- c * t))) by (unfold Rdiv; ring). exact H.
Qed.

(* The path solves the flow: its rate is the shaped reward, with nothing left to normalize away. *)
Theorem path_solves y t : derivable_pt_lim (fun t => path t y) t (shaped (path t) y).
Proof.
  assert (D : derivable_pt_lim (fun t => path t y) t
                ((0 - alpha * exp (- c * t)) * log_q y + exp (- c * t) * r y)).
  { apply (derivable_pt_lim_plus (fun t => (1 - alpha * flow_tau t) * log_q y) (fun t => flow_tau t * r y)).
    - replace ((0 - alpha * exp (- c * t)) * log_q y)
        with ((0 - alpha * exp (- c * t)) * log_q y + (1 - alpha * flow_tau t) * 0) by ring.
      apply (derivable_pt_lim_mult (fun t => 1 - alpha * flow_tau t) (fun _ => log_q y)); [|apply derivable_pt_lim_const].
      apply (derivable_pt_lim_minus (fun _ => 1)); [apply derivable_pt_lim_const|].
      apply (derivable_pt_lim_scal flow_tau), flow_tau_rate.
    - replace (exp (- c * t) * r y) with (exp (- c * t) * r y + flow_tau t * 0) by ring.
      apply (derivable_pt_lim_mult flow_tau (fun _ => r y)); [apply flow_tau_rate|apply derivable_pt_lim_const]. }
  replace (shaped (path t) y) with ((0 - alpha * exp (- c * t)) * log_q y + exp (- c * t) * r y); [exact D|].
  unfold shaped, path, flow_tau. unfold c in *. field. exact c_nonzero.
Qed.

Theorem path_starts y : path 0 y = log_q y.
Proof. unfold path, flow_tau. replace (- c * 0) with 0 by ring. rewrite exp_0. field. exact c_nonzero. Qed.

(* It is the only one: two solutions of the same linear equation with the same start agree.
   M is any flow; the normalizing constant, different at every time, drops out of differences between responses. *)
Theorem retention_flow (M : R -> A -> R) y z :
  (forall t, derivable_pt_lim (fun t => M t y - M t z) t (shaped (M t) y - shaped (M t) z)) ->
  M 0 y - M 0 z = log_q y - log_q z ->
  forall t, M t y - M t z
    = (1 - alpha * flow_tau t) * (log_q y - log_q z) + flow_tau t * (r y - r z).
Proof.
  intros Rate Start.
  set (g := fun t => (M t y - M t z) - (path t y - path t z)).
  assert (G : forall t, derivable_pt_lim g t (- c * g t)).
  { intros t. replace (- c * g t) with ((shaped (M t) y - shaped (M t) z) - (shaped (path t) y - shaped (path t) z)).
    - apply (derivable_pt_lim_minus (fun t => M t y - M t z) (fun t => path t y - path t z)); [apply Rate|].
      apply (derivable_pt_lim_minus (fun t => path t y) (fun t => path t z)); apply path_solves.
    - unfold g, shaped, c. ring. }
  assert (H : forall t, derivable_pt_lim (fun t => exp (c * t) * g t) t 0).
  { intros t. replace 0 with ((exp (c * t) * (c * 1)) * g t + exp (c * t) * (- c * g t)) by ring.
    apply (derivable_pt_lim_mult (fun t => exp (c * t)) g); [|apply G].
    apply (derivable_pt_lim_comp (fun t => c * t) exp); [|apply derivable_pt_lim_exp].
    apply (derivable_pt_lim_scal id c), derivable_pt_lim_id. }
  assert (K : constant (fun t => exp (c * t) * g t)).
  { apply (null_derivative_1 _ (fun t => exist _ 0 (H t))). intros t. apply derive_pt_eq_0, H. }
  intros t. specialize (K t 0). simpl in K.
  assert (Z : g 0 = 0) by (unfold g; rewrite !path_starts, Start; ring).
  rewrite Z, Rmult_0_r in K. pose proof (exp_pos (c * t)).
  destruct (Rmult_integral _ _ K) as [F|F]; [lra|]. unfold g, path in F. lra.
Qed.
End Flow.
End Retention.
