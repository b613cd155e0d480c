(* Entropy (MaxEnt) and KL to a reference (DPO) are cases of SimPO.v: the same problem with equal weights and a reward
   that is moved by a known amount.  The partition function appears in closed form, and cancels. *)
Require Import Reals Lra List Sums Preferences SimPO.
Import ListNotations.
Open Scope R_scope.

Section KL.
Variable A : Type.
Variable Y : list A.
Hypothesis nonempty : Y <> [].
Variable beta : R.
Hypothesis beta_pos : 0 < beta.
Variable q : A -> R.  (* the reference; for entropy it is 1 everywhere, and need not sum to 1 *)
Hypothesis q_pos : forall y, 0 < q y.
Variable r : A -> R.

(* E_p[r] - beta sum p log(p / q). *)
Definition J_kl (p : A -> R) := sum (fun y => p y * r y - beta * (p y * (ln (p y) - ln (q y)))) Y.
Definition moved y := r y + beta * ln (q y) - beta.  (* the reward for which it is the problem of SimPO.v *)
Definition log_ratio (p : A -> R) y := beta * (ln (p y) - ln (q y)).  (* DPO's implicit reward *)
Definition Z := sum (fun y => q y * exp (r y / beta)) Y.

Lemma same_problem p : J_kl p = J A Y (fun _ => beta) moved p.
Proof. unfold J_kl, J, moved. apply sum_ext. intros. ring. Qed.

Theorem dpo_is_kl_regularized :
  exists pi, policy Y pi /\ (forall y, In y Y -> 0 < pi y)
    /\ (forall y, In y Y -> pi y = q y * exp (r y / beta) / Z)                      (* the closed form *)
    /\ (forall y, In y Y -> r y = log_ratio pi y + beta * ln Z)                     (* r = s + beta log Z *)
    /\ (forall p, policy Y p -> J_kl p <= J_kl pi)                                  (* a maximizer *)
    /\ (forall p, policy Y p -> J_kl p = J_kl pi -> forall y, In y Y -> p y = pi y) (* the only one *)
    /\ (forall w l, In w Y -> In l Y ->                                             (* Bradley-Terry: DPO *)
          sigma (r w - r l) = sigma (beta * (ln (pi w) - ln (q w)) - beta * (ln (pi l) - ln (q l))))
    /\ (forall ranking, incl ranking Y ->                                           (* Plackett-Luce: DPO-PL *)
          plackett_luce r ranking = plackett_luce (log_ratio pi) ranking).
Proof.
  destruct (simpo_is_maximum_entropy A Y nonempty (fun _ => beta) (fun _ => beta_pos) moved)
    as (pi & lam & Pol & Pos & Stat & Max & Only & _ & _).
  assert (S : forall y, In y Y -> r y = log_ratio pi y + (lam + beta)).
  { intros y Hy. specialize (Stat y Hy). unfold moved, s in Stat. unfold log_ratio. lra. }
  assert (Form : forall y, In y Y -> pi y * exp ((lam + beta) / beta) = q y * exp (r y / beta)).
  { intros y Hy. rewrite (S y Hy). unfold log_ratio.
    replace ((beta * (ln (pi y) - ln (q y)) + (lam + beta)) / beta)
      with (ln (pi y) + - ln (q y) + (lam + beta) / beta) by (field; lra).
    rewrite !exp_plus, exp_Ropp, !exp_ln; auto. field. pose proof (q_pos y). lra. }
  assert (HZ : Z = exp ((lam + beta) / beta)).
  { unfold Z. rewrite <- (sum_ext A (fun y => exp ((lam + beta) / beta) * pi y)).
    - rewrite sum_mult. destruct Pol as [_ ->]. ring.
    - intros y Hy. rewrite <- (Form y Hy). ring. }
  assert (S' : forall y, In y Y -> r y = log_ratio pi y + beta * ln Z).
  { intros y Hy. rewrite HZ, ln_exp, (S y Hy). field. lra. }
  exists pi. split; [exact Pol|]. split; [exact Pos|]. split; [|split; [exact S'|split; [|split; [|split]]]].
  - intros y Hy. rewrite <- (Form y Hy), <- HZ. pose proof (exp_pos ((lam + beta) / beta)). field. lra.
  - intros p Hp. rewrite !same_problem. auto.
  - intros p Hp. rewrite !same_problem. auto.
  - intros w l Hw Hl. f_equal. rewrite (S' w Hw), (S' l Hl). unfold log_ratio. ring.
  - intros ranking Hin. apply (pl_shift A _ _ (beta * ln Z)). intros. auto.
Qed.
End KL.

(* MaxEnt: the reference is 1 everywhere, and alpha stands in beta's place. *)
Theorem maxent_is_maximum_entropy (A : Type) (Y : list A) (alpha : R) (r : A -> R) : Y <> [] -> 0 < alpha ->
  let J p := sum (fun y => p y * r y - alpha * (p y * ln (p y))) Y in
  let Z := sum (fun y => exp (r y / alpha)) Y in
  exists pi, policy Y pi
    /\ (forall y, In y Y -> 0 < pi y /\ pi y = exp (r y / alpha) / Z)
    /\ (forall y, In y Y -> r y = alpha * ln (pi y) + alpha * ln Z)
    /\ (forall p, policy Y p -> J p <= J pi)
    /\ (forall p, policy Y p -> J p = J pi -> forall y, In y Y -> p y = pi y)
    /\ (forall w l, In w Y -> In l Y -> sigma (r w - r l) = sigma (alpha * ln (pi w) - alpha * ln (pi l)))
    /\ (forall ranking, incl ranking Y ->
          plackett_luce r ranking = plackett_luce (fun y => alpha * ln (pi y)) ranking).
Proof.
  intros N Ha J Z0.
  destruct (dpo_is_kl_regularized A Y N alpha Ha (fun _ => 1) (fun _ => Rlt_0_1) r)
    as (pi & Pol & Pos & Form & Stat & Max & Only & BT & PL).
  assert (EZ : Z A Y alpha (fun _ => 1) r = Z0) by (apply sum_ext; intros; ring).
  assert (EJ : forall p, J_kl A Y alpha (fun _ => 1) r p = J p).
  { intros p. apply sum_ext. intros. rewrite ln_1. ring. }
  exists pi. split; [exact Pol|]. split; [|split; [|split; [|split; [|split]]]].
  - intros y Hy. split; [auto|]. rewrite (Form y Hy), EZ, Rmult_1_l. reflexivity.
  - intros y Hy. rewrite (Stat y Hy), EZ at 1. unfold log_ratio. rewrite ln_1. ring.
  - intros p Hp. rewrite <- !EJ. auto.
  - intros p Hp. rewrite <- !EJ. auto.
  - intros w l Hw Hl. rewrite (BT w l Hw Hl), ln_1. f_equal. ring.
  - intros ranking Hin. rewrite (PL ranking Hin). apply (pl_shift A _ _ 0). intros. unfold log_ratio. rewrite ln_1. ring.
Qed.
