(* The code's regularizers meet the conditions of the master theorem.  Their phi and implicit reward come from Traced.v:
   the reward is the derivative of phi, it increases strictly, it falls to -infinity at 0, and phi is continuous at 1
   and, where it is finite there, at 0.  So the master theorem holds for the code as it stands. *)
Require Import Reals Lra List Sums Preferences Identities Master Traced.
Import ListNotations.
Open Scope R_scope.

Lemma ln_derivative t : 0 < t -> derivable_pt_lim ln t (/ t).
Proof. intros Ht. now apply derivable_pt_lim_ln. Qed.

Lemma ln_continuous t : 0 < t -> continuity_pt ln t.
Proof. intros Ht. apply derivable_continuous_pt. exists (/ t). now apply ln_derivative. Qed.

(* Rocq's logarithm is 0 up to 0, so p log p is 0 there; it is continuous, as 0 <= - p log p <= 2 sqrt p. *)
Lemma ln_nonpositive t : t <= 0 -> ln t = 0.
Proof. intros H. unfold ln. destruct (Rlt_dec 0 t); [exfalso; lra|reflexivity]. Qed.

Lemma p_log_p_bound t : 0 < t < 1 -> Rabs (t * ln t) <= 2 * sqrt t.
Proof.
  intros [P Q]. assert (S : 0 < sqrt t) by now apply sqrt_lt_R0.
  assert (E : ln t = - (2 * ln (/ sqrt t))).
  { rewrite ln_Rinv by exact S. rewrite <- (sqrt_sqrt t) at 1 by lra. rewrite ln_mult by exact S. ring. }
  assert (L : ln (/ sqrt t) <= / sqrt t).
  { pose proof (exp_ineq1_le (ln (/ sqrt t))) as X. rewrite exp_ln in X by now apply Rinv_0_lt_compat. lra. }
  assert (N : ln t <= 0) by (rewrite <- ln_1; left; apply ln_increasing; lra).
  rewrite Rabs_left1 by nra.
  assert (M : t * (2 * ln (/ sqrt t)) <= t * (2 * / sqrt t)) by (apply Rmult_le_compat_l; lra).
  replace (t * (2 * / sqrt t)) with (2 * sqrt t) in M; [rewrite E; lra|].
  rewrite <- (sqrt_sqrt t) at 2 by lra. field. lra.
Qed.

Lemma p_log_p_continuous_at_0 : continuity_pt (fun p => p * ln p) 0.
Proof.
  intros eps He. exists (Rmin 1 (eps / 4 * (eps / 4))).
  assert (0 < eps / 4 * (eps / 4)) by (apply Rmult_lt_0_compat; lra).
  split; [apply Rmin_pos; lra|]. intros x [_ Hx]. simpl in *. unfold R_dist in *.
  rewrite Rmult_0_l, Rminus_0_r. rewrite Rminus_0_r in Hx.
  pose proof (Rmin_l 1 (eps / 4 * (eps / 4))). pose proof (Rmin_r 1 (eps / 4 * (eps / 4))).
  destruct (Rle_dec x 0) as [N|P]; [rewrite ln_nonpositive by exact N; rewrite Rmult_0_r, Rabs_R0; exact He|].
  apply Rabs_def2 in Hx.
  assert (sqrt x < eps / 4).
  { rewrite <- (sqrt_square (eps / 4)) by lra. apply sqrt_lt_1; lra. }
  pose proof (p_log_p_bound x ltac:(lra)). lra.
Qed.

(* ---- regularizers of the form a p log p + b p with a > 0: entropy, KL, length-normalized, Shannon, and their sums ---- *)
Section Entropic.
Variables a b : R.
Hypothesis a_pos : 0 < a.
Definition entropic p := a * (p * ln p) + b * p.
Definition entropic_slope p := a * (ln p + 1) + b.

Lemma entropic_derivative p : 0 < p -> derivable_pt_lim entropic p (entropic_slope p).
Proof.
  intros Hp. unfold entropic, entropic_slope.
  replace (a * (ln p + 1) + b) with (a * (1 * ln p + p * / p) + b * 1) by (field; lra).
  apply (derivable_pt_lim_plus (fun p => a * (p * ln p)) (fun p => b * p)).
  - apply (derivable_pt_lim_scal (fun p => p * ln p)). apply (derivable_pt_lim_mult id ln).
    + apply derivable_pt_lim_id. + now apply ln_derivative.
  - apply (derivable_pt_lim_scal id), derivable_pt_lim_id.
Qed.

Lemma entropic_convex p q : 0 < p -> p < q -> entropic_slope p < entropic_slope q.
Proof.
  intros Hp L. unfold entropic_slope. pose proof (ln_increasing p q Hp L).
  assert (a * ln p < a * ln q) by now apply Rmult_lt_compat_l. lra.
Qed.

Lemma entropic_slope_continuous p : 0 < p -> continuity_pt entropic_slope p.
Proof.
  intros Hp. apply (continuity_pt_plus (fun p => a * (ln p + 1)) (fun _ => b)).
  - apply (continuity_pt_scal (fun p => ln p + 1)), (continuity_pt_plus ln (fun _ => 1)).
    + now apply ln_continuous. + apply continuity_pt_const. now intros ? ?.
  - apply continuity_pt_const. now intros ? ?.
Qed.

Lemma entropic_barrier M : exists t, 0 < t < 1 /\ entropic_slope t < M.
Proof.
  set (x := Rmin (-1) ((M - b) / a - 2)). exists (exp x).
  pose proof (Rmin_l (-1) ((M - b) / a - 2)). pose proof (Rmin_r (-1) ((M - b) / a - 2)). fold x in H, H0.
  split; [split; [apply exp_pos|rewrite <- exp_0; apply exp_increasing; lra]|].
  unfold entropic_slope. rewrite ln_exp.
  assert (a * (x + 1) <= a * ((M - b) / a - 1)) by (apply Rmult_le_compat_l; lra).
  replace (a * ((M - b) / a - 1)) with (M - b - a) in H1 by (field; lra). lra.
Qed.

Lemma entropic_continuous p : 0 <= p -> continuity_pt entropic p.
Proof.
  intros [Hp| <-].
  - apply derivable_continuous_pt. exists (entropic_slope p). now apply entropic_derivative.
  - apply (continuity_pt_plus (fun p => a * (p * ln p)) (fun p => b * p)).
    + apply (continuity_pt_scal (fun p => p * ln p)), p_log_p_continuous_at_0.
    + apply (continuity_pt_scal id). apply derivable_continuous_pt, derivable_pt_id.
Qed.
End Entropic.

(* The code's phi and implicit reward have this form, as functions of p = e^(log p) > 0. *)
Theorem code_entropic beta p length ref : 0 < p -> length <> 0 ->
  (phi_entropy beta (ln p) length ref = entropic beta 0 p
    /\ implicit_reward_entropy beta (ln p) length ref = entropic_slope beta 0 p)
  /\ (phi_kl beta (ln p) length ref = entropic beta (- (beta * ref)) p
    /\ implicit_reward_kl beta (ln p) length ref = entropic_slope beta (- (beta * ref)) p)
  /\ (phi_generalized beta (ln p) length ref = entropic (beta / length) (- (beta / length)) p
    /\ implicit_reward_generalized beta (ln p) length ref = entropic_slope (beta / length) (- (beta / length)) p)
  /\ (phi_shannon beta (ln p) length ref = entropic (beta / length) 0 p
    /\ implicit_reward_shannon beta (ln p) length ref = entropic_slope (beta / length) 0 p).
Proof.
  intros Hp Hl. unfold phi_entropy, phi_kl, phi_generalized, phi_shannon, implicit_reward_entropy, implicit_reward_kl,
    implicit_reward_generalized, implicit_reward_shannon, entropic, entropic_slope.
  rewrite exp_ln by exact Hp. repeat split; field; exact Hl.
Qed.

(* So the master theorem holds for every mixture of them, with another strength for every response. *)
Theorem master_theorem_entropic (A : Type) (Y : list A) (a b r : A -> R) :
  (2 <= length Y)%nat -> (forall y, 0 < a y) ->
  let value p := sum (fun y => p y * r y - entropic (a y) (b y) (p y)) Y in
  exists pi lam, policy Y pi /\ (forall y, In y Y -> 0 < pi y < 1)
    /\ (forall y, In y Y -> r y = entropic_slope (a y) (b y) (pi y) + lam)
    /\ (forall p, policy Y p -> value p <= value pi)
    /\ (forall p, policy Y p -> value p = value pi -> forall y, In y Y -> p y = pi y).
Proof.
  intros N Ha value.
  destruct (master_theorem A Y N (fun y => entropic (a y) (b y)) (fun y => entropic_slope (a y) (b y)) (fun _ => True))
    with (r := r) as (pi & lam & [Pol In] & Stat & Max & Only & _).
  - intros. apply entropic_derivative. lra.
  - intros. apply entropic_convex; auto.
  - intros. apply entropic_slope_continuous. lra.
  - intros. apply entropic_barrier. auto.
  - intros. apply entropic_continuous. lra.
  - intros. apply entropic_continuous. lra.
  - assert (C : forall p, policy Y p -> competitor A Y (fun _ => True) p) by (intros p Hp; split; auto).
    exists pi, lam. split; [exact Pol|]. split; [exact In|]. split; [exact Stat|]. split.
    + intros p Hp. apply Max. auto.
    + intros p Hp. apply Only. auto.
Qed.

(* ---- forward KL: phi is infinite at 0, so no competitor may leave a response out ---- *)
Section ForwardKL.
Variables beta q : R.
Hypothesis beta_pos : 0 < beta.
Hypothesis q_pos : 0 < q.
Definition forward p := phi_forward_kl beta (ln p) 1 (ln q).
Definition forward_slope p := - beta * q / p.

Lemma code_forward_slope p : 0 < p -> implicit_reward_forward_kl beta (ln p) 1 (ln q) = forward_slope p.
Proof.
  intros Hp. unfold implicit_reward_forward_kl, forward_slope, Rminus.
  rewrite exp_plus, exp_Ropp, !exp_ln by assumption. field. lra.
Qed.

Lemma forward_form p : forward p = beta * q * ln q + - (beta * q) * ln p.
Proof. unfold forward, phi_forward_kl. rewrite exp_ln by exact q_pos. ring. Qed.

Lemma forward_derivative p : 0 < p -> derivable_pt_lim forward p (forward_slope p).
Proof.
  intros Hp. unfold forward_slope. replace (- beta * q / p) with (0 + - (beta * q) * / p) by (field; lra).
  intros eps He.
  destruct (derivable_pt_lim_plus (fun _ => beta * q * ln q) (fun p => - (beta * q) * ln p) p 0 (- (beta * q) * / p)
    (derivable_pt_lim_const _ _) (derivable_pt_lim_scal ln _ p _ (ln_derivative p Hp)) eps He) as [delta H].
  exists delta. intros h Nz B. specialize (H h Nz B). rewrite !forward_form. exact H.
Qed.

Lemma forward_convex s t : 0 < s -> s < t -> forward_slope s < forward_slope t.
Proof.
  intros Hs L. unfold forward_slope, Rdiv. pose proof (Rinv_lt_contravar s t ltac:(apply Rmult_lt_0_compat; lra) L).
  assert (0 < beta * q) by now apply Rmult_lt_0_compat.
  assert (beta * q * / t < beta * q * / s) by (apply Rmult_lt_compat_l; lra). lra.
Qed.

Lemma forward_slope_continuous p : 0 < p -> continuity_pt forward_slope p.
Proof.
  intros Hp. apply (continuity_pt_scal Rinv). apply (continuity_pt_inv id); [|unfold id; lra].
  apply derivable_continuous_pt, derivable_pt_id.
Qed.

Lemma forward_barrier M : exists t, 0 < t < 1 /\ forward_slope t < M.
Proof.
  assert (B : 0 < beta * q) by now apply Rmult_lt_0_compat.
  set (k := Rmax 2 (1 - M / (beta * q))). exists (/ k).
  pose proof (Rmax_l 2 (1 - M / (beta * q))). pose proof (Rmax_r 2 (1 - M / (beta * q))). fold k in H, H0.
  split; [split; [apply Rinv_0_lt_compat; lra|rewrite <- Rinv_1; apply Rinv_lt_contravar; lra]|].
  unfold forward_slope, Rdiv. rewrite Rinv_inv.
  assert (beta * q * (1 - M / (beta * q)) <= beta * q * k) by (apply Rmult_le_compat_l; lra).
  replace (beta * q * (1 - M / (beta * q))) with (beta * q - M) in H1 by (field; nz). lra.
Qed.
End ForwardKL.

Theorem master_theorem_forward_kl (A : Type) (Y : list A) (beta : R) (q r : A -> R) :
  (2 <= length Y)%nat -> 0 < beta -> (forall y, 0 < q y) ->
  let value p := sum (fun y => p y * r y - forward beta (q y) (p y)) Y in
  exists pi lam, policy Y pi /\ (forall y, In y Y -> 0 < pi y < 1)
    /\ (forall y, In y Y -> r y = forward_slope beta (q y) (pi y) + lam)
    /\ (forall p, policy Y p -> (forall y, In y Y -> p y <> 0) -> value p <= value pi
          /\ (value p = value pi -> forall y, In y Y -> p y = pi y)).
Proof.
  intros N Hb Hq value.
  destruct (master_theorem A Y N (fun y => forward beta (q y)) (fun y => forward_slope beta (q y)) (fun _ => False))
    with (r := r) as (pi & lam & [Pol In] & Stat & Max & Only & _).
  - intros. apply forward_derivative; auto; lra.
  - intros. apply forward_convex; auto.
  - intros. apply forward_slope_continuous. lra.
  - intros. apply forward_barrier; auto.
  - intros. apply derivable_continuous_pt. exists (forward_slope beta (q y) 1). apply forward_derivative; auto; lra.
  - intros y [].
  - exists pi, lam. split; [exact Pol|]. split; [exact In|]. split; [exact Stat|].
    intros p Hp Nz.
    assert (C : competitor A Y (fun _ => False) p) by (split; [exact Hp|]; intros y Hy Z; exact (Nz y Hy Z)).
    split; [apply Max; exact C|apply Only; exact C].
Qed.
